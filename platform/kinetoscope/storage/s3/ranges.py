"""Parts of objects: one by a request of its own, and what all ranged requests share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kinetoscope.core.errors import StorageError
from kinetoscope.core.units import MIB
from kinetoscope.storage.s3.connection import Message, S3Connection
from kinetoscope.storage.s3.errors import GarbledError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHUNK_BYTES = MIB


def read_range(connection: S3Connection, key: str, offset: int, length: int) -> bytes:
    """Return bytes of an object: fewer than ``length`` where it ends before, none past its end.

    Args:
        connection: to the bucket.
        key: the object.
        offset: of the first byte.
        length: at least 1: no request asks for nothing.

    Raises:
        RequestError: among others, that it is missing.
        StorageError: the server knows no ranges.
    """

    def get() -> bytes:
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        with ranged_answer(connection, key, headers) as (answer, chunks):
            if "Content-Range" not in answer:
                raise no_ranges(connection)
            end = min(offset + length, whole_size(answer))
            check_place(answer, offset, end)
            data = b"".join(chunks)
        if len(data) != end - offset:
            raise GarbledError(f"{len(data)} bytes came of {end - offset}")
        return data

    try:
        return connection.call(get, doing="read", key=key)
    except RequestError as error:
        if error.code != "InvalidRange":
            raise
    return b""


@contextmanager
def ranged_answer(
    connection: S3Connection, key: str, headers: dict[str, str]
) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
    """Send a GET for a range; give its headers and its body, which must be read to its end."""
    answer = connection.send(Message("GET", key, headers=headers), stream=True)
    try:
        yield answer.headers, answer.stream(_CHUNK_BYTES)
    except BaseException:
        answer.close()
        raise
    answer.release_conn()


def whole_size(headers: Mapping[str, str]) -> int:
    """Return the size of the whole object that an answer is of."""
    told = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    if not told.isdecimal():
        raise GarbledError("the answer does not say how large the object is")
    return int(told)


def check_place(headers: Mapping[str, str], start: int, end: int) -> None:
    """Raise ``GarbledError`` unless an answer holds just the bytes from ``start`` to ``end``."""
    if not headers.get("Content-Range", "").startswith(f"bytes {start}-{end - 1}/"):
        raise GarbledError("another range came than was asked for")


def no_ranges(connection: S3Connection) -> StorageError:
    """Return the error that tells of a server which sends all where a part was asked for."""
    return StorageError(f"the server of s3://{connection.bucket} ignores Range")
