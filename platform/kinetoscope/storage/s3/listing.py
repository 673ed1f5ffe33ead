"""Listing and deleting many objects."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from minio.datatypes import parse_list_objects
from minio.deleteobjects import DeleteObject

from kinetoscope.storage.s3.connection import Message, S3Connection
from kinetoscope.storage.s3.errors import RequestError
from kinetoscope.storage.store import ObjectStat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_AT_ONCE = 1000  # the most that S3 lists or deletes in one request


def list_tree(connection: S3Connection, top: str) -> Iterator[ObjectStat]:
    """Yield the object named ``top`` and all below ``top/``, mostly for one request.

    An empty ``top``, or one that ends in a slash, is the root of a store: all below it.
    """
    if not top or top.endswith("/"):
        yield from _pages(connection, top)
        return
    stats, token = _page(connection, top, None)
    if token is None:
        # Neighbours, such as "a-1" of "a", have come along.
        yield from (stat for stat in stats if stat.key == top or stat.key.startswith(f"{top}/"))
        return
    # Perhaps most of a thousand are neighbours: asked for exactly.
    headers = connection.head(top)
    if headers is not None:
        yield describe(top, headers)
    yield from _pages(connection, f"{top}/")


def describe(key: str, headers: Mapping[str, str]) -> ObjectStat:
    """Return what the headers of an object say of it."""
    return ObjectStat(key, int(headers["Content-Length"]), headers.get("ETag", "").strip('"'))


def delete_all(connection: S3Connection, keys: Sequence[str]) -> None:
    """Delete objects, a thousand with a request where the server can; missing ones are fine."""
    for start in range(0, len(keys), _AT_ONCE):
        for key in _delete_at_once(connection, keys[start : start + _AT_ONCE]):
            delete(connection, key)


def delete(connection: S3Connection, key: str) -> None:
    """Delete an object; nothing happens when there is none."""
    try:
        connection.request(Message("DELETE", key), doing="delete")
    except RequestError as error:
        if error.code != "NoSuchKey":
            raise


def _delete_at_once(connection: S3Connection, keys: Sequence[str]) -> Sequence[str]:
    """Return the keys that are left: to be deleted one by one, which tells what ails them."""
    objects = [DeleteObject(key) for key in keys]
    try:
        result = connection.call(
            lambda: connection.client._delete_objects(connection.bucket, objects, quiet=True),
            doing="delete objects in",
        )
    except RequestError as error:
        if error.status in (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.METHOD_NOT_ALLOWED):
            return keys
        raise
    if any(failed.name is None for failed in result.error_list):
        return keys
    return [failed.name for failed in result.error_list if failed.name]


def _pages(connection: S3Connection, start: str) -> Iterator[ObjectStat]:
    stats, token = _page(connection, start, None)
    yield from stats
    while token is not None:
        stats, token = _page(connection, start, token)
        yield from stats


def _page(
    connection: S3Connection, start: str, token: str | None
) -> tuple[list[ObjectStat], str | None]:
    query = {
        "list-type": "2",
        "prefix": start,
        "delimiter": "",
        "encoding-type": "url",
        "max-keys": str(_AT_ONCE),
    }
    if token is not None:
        query["continuation-token"] = token
    answer = connection.call(
        lambda: connection.send(Message("GET", query=query)), doing="list", key=start
    )
    objects, more, next_token, _ = parse_list_objects(answer)
    stats = [
        ObjectStat(found.object_name, found.size or 0, found.etag or "")
        for found in objects
        # The placeholder of a folder, as consoles make it, is no object of ours.
        if found.object_name and not found.is_dir
    ]
    return stats, next_token if more else None
