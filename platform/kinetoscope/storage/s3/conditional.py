"""Writes that happen only where nothing is: what leases and results rest on."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING
from uuid import uuid4

from kinetoscope.core.errors import StorageError
from kinetoscope.storage.s3.connection import Message, S3Connection
from kinetoscope.storage.s3.errors import RequestError
from kinetoscope.storage.s3.upload import WRITE_HEADER, BytesSource, object_headers

if TYPE_CHECKING:
    from kinetoscope.storage.store import ObjectStore

TRIAL_PREFIX = ".kinetoscope-trial-"
"""Begins the names of objects that show how a server writes; never listed, deleted at once."""


class ConditionalWritesError(StorageError):
    """The server ignores conditions of writes, so that two writers could both win."""


def supports_conditional_writes(store: ObjectStore) -> bool:
    """Tell whether a store creates an object only where there is none; every run needs that."""
    key = f"{TRIAL_PREFIX}{uuid4().hex}"
    try:
        first = store.put_bytes_if_absent(key, b"first")
        return first and not store.put_bytes_if_absent(key, b"second")
    except ConditionalWritesError:
        return False
    finally:
        store.delete(key)


def create(connection: S3Connection, key: str, data: bytes) -> bool:
    """Create an object with ``If-None-Match: *``; return False when there is one already.

    The connection may break after the server has written. The repeated request is refused then,
    since the object exists; a token in its metadata tells whether it is the one of this call. An
    object that somebody replaced in between is not ours any more: False.

    Raises:
        RequestError: among others, that nobody knows whether it was written.
    """
    token = uuid4().hex
    headers = object_headers(key, BytesSource(data))
    headers |= {"If-None-Match": "*", WRITE_HEADER: token}
    num_sent = 0

    def send() -> None:
        nonlocal num_sent
        num_sent += 1
        connection.send(Message("PUT", key, data, headers))

    while True:
        try:
            connection.call(send, doing="create", key=key)
        except RequestError as error:
            if error.status != HTTPStatus.PRECONDITION_FAILED:
                raise
        else:
            return True
        if num_sent == 1:
            return False
        found = connection.head(key)
        if found is not None:
            return found.get(WRITE_HEADER) == token
        # Deleted since: it is absent, so that it may be created.


def require_conditional_writes(connection: S3Connection, root: str) -> None:
    """Find out once per connection, by an object of its own: by a real one it would be too late.

    Args:
        connection: to the bucket.
        root: key prefix of the store, with a trailing slash where there is one.

    Raises:
        ConditionalWritesError: the server would overwrite.
    """
    with connection.lock:
        if not connection.honours_conditions:
            _try_conditional_writes(connection, root)
            connection.honours_conditions = True


def _try_conditional_writes(connection: S3Connection, root: str) -> None:
    key = f"{root}{TRIAL_PREFIX}{uuid4().hex}"
    try:
        honoured = create(connection, key, b"first") and not create(connection, key, b"second")
    except RequestError as error:
        if error.status != HTTPStatus.NOT_IMPLEMENTED:
            raise
        honoured = False
    finally:
        with suppress(RequestError):
            connection.request(Message("DELETE", key), doing="delete")
    if not honoured:
        raise ConditionalWritesError(
            f"the S3 server at {connection.settings.endpoint} ignores If-None-Match: two processes "
            "could both take the same step",
            hint="use a server with conditional writes, such as AWS or a recent MinIO, SeaweedFS "
            "or Ceph; see docs/storage.md",
        )
