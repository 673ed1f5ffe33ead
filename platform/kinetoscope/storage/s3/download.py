"""Downloads: whole objects of one moment, in ranges by several threads."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from kinetoscope.core.errors import CorruptError, StorageError
from kinetoscope.core.units import MIB
from kinetoscope.storage.parallel import in_order
from kinetoscope.storage.s3.connection import Message, S3Connection
from kinetoscope.storage.s3.errors import GarbledError, RequestError
from kinetoscope.storage.s3.ranges import check_place, no_ranges, ranged_answer, whole_size
from kinetoscope.storage.s3.upload import NUM_THREADS, PART_BYTES, SHA256_HEADER
from kinetoscope.storage.store import ReplacedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from threading import Event

_CHUNK_BYTES = MIB
_MAX_RANGES = 10_000
_MAX_STARTS = 10


@dataclass(frozen=True, slots=True)
class _Version:
    """Which content of an object is being read.

    Attributes:
        size_bytes: of the whole.
        etag: as the server gives it, with its quotes; empty where it gives none.
        sha256: hex digest that its writer noted, or None.
    """

    size_bytes: int
    etag: str
    sha256: str | None


class _ReplacedError(Exception):
    """The object is another one than when we began to read it."""


def read(connection: S3Connection, key: str) -> bytes:
    """Return the content of an object.

    Raises:
        RequestError: among others, that it is missing.
        CorruptError: what arrives does not match the digest that its writer noted.
    """

    def get() -> bytes:
        answer = connection.send(Message("GET", key))
        data: bytes = answer.data
        expected = answer.headers.get(SHA256_HEADER)
        if expected is not None and hashlib.sha256(data).hexdigest() != expected:
            raise GarbledError("its content does not match the digest that was stored with it")
        return data

    return connection.call(get, doing="read", key=key)


def download(connection: S3Connection, key: str, path: Path, *, etag: str = "") -> None:
    """Write the content of an object to a file, which appears whole.

    Memory: about 1 MiB for each of ``NUM_THREADS`` threads, however large the object.

    Args:
        connection: to the bucket.
        key: the object.
        path: of the file.
        etag: that the object must have, without quotes; empty: any.

    Raises:
        ReplacedError: it has another ETag.
        RequestError: among others, that it is missing.
        CorruptError: what arrives does not match the digest that its writer noted.
    """
    damaged = False
    for _ in range(_MAX_STARTS):
        with _partial(path) as (partial_path, descriptor):
            try:
                whole = _download(connection, key, descriptor, etag)
            except _ReplacedError:
                if etag:
                    raise ReplacedError(
                        f"s3://{connection.bucket}/{key} is another object than {etag}"
                    ) from None
                continue
            if whole:
                partial_path.replace(path)
                return
        if damaged:
            raise CorruptError(
                f"s3://{connection.bucket}/{key} does not match the digest stored with it"
            )
        damaged = True
    raise StorageError(
        f"s3://{connection.bucket}/{key} was replaced {_MAX_STARTS} times while it was read"
    )


def _download(connection: S3Connection, key: str, descriptor: int, etag: str) -> bool:
    """Fill the file; return whether it matches the digest, where there is one."""
    version = _fetch_first(connection, key, descriptor)
    if etag and version.etag.strip('"') != etag:
        raise _ReplacedError
    sha = hashlib.sha256()
    hashed = min(PART_BYTES, version.size_bytes)
    _hash(sha.update, descriptor, 0, hashed)
    if hashed < version.size_bytes:
        rest = version.size_bytes - hashed
        length = max(PART_BYTES, -(-rest // _MAX_RANGES))
        ranges = [
            (start, min(start + length, version.size_bytes))
            for start in range(hashed, version.size_bytes, length)
        ]
        tasks = [partial(_fetch, connection, key, descriptor, version, place) for place in ranges]
        for start, end in in_order(tasks, num_threads=NUM_THREADS):
            _hash(sha.update, descriptor, start, end)
    return version.sha256 in (None, sha.hexdigest())


def _fetch_first(connection: S3Connection, key: str, descriptor: int) -> _Version:
    """Fetch the first part and learn what the whole is; most objects are no larger."""

    def get() -> _Version:
        os.ftruncate(descriptor, 0)
        headers = {"Range": f"bytes=0-{PART_BYTES - 1}"}
        with ranged_answer(connection, key, headers) as (answer, chunks):
            size_bytes = whole_size(answer)
            offset = 0
            for chunk in chunks:
                offset += _write(descriptor, chunk, offset)
        # A server that knows no ranges sends all at once.
        if offset not in (min(PART_BYTES, size_bytes), size_bytes):
            raise GarbledError(f"{offset} bytes came of {size_bytes}")
        if offset > PART_BYTES:
            raise no_ranges(connection)
        return _Version(size_bytes, answer.get("ETag", ""), answer.get(SHA256_HEADER))

    try:
        return connection.call(get, doing="read", key=key)
    except RequestError as error:
        if error.code != "InvalidRange":
            raise
    # Only an empty object has no first byte.
    return _Version(0, (connection.head(key) or {}).get("ETag", ""), None)


def _fetch(
    connection: S3Connection,
    key: str,
    descriptor: int,
    version: _Version,
    place: tuple[int, int],
    stop: Event,
) -> tuple[int, int]:
    """Fetch a range; after a break, only what is still missing of it."""
    start, end = place
    done = start

    def get() -> None:
        nonlocal done
        headers = {"Range": f"bytes={done}-{end - 1}"}
        if version.etag:
            headers["If-Match"] = version.etag
        with ranged_answer(connection, key, headers) as (answer, chunks):
            if answer.get("ETag", "") != version.etag or whole_size(answer) != version.size_bytes:
                raise _ReplacedError
            check_place(answer, done, end)
            for chunk in chunks:
                if done + len(chunk) > end:
                    raise GarbledError("more came than was asked for")
                done += _write(descriptor, chunk, done)
        if done != end:
            raise GarbledError(f"{end - done} bytes did not come")

    try:
        connection.call(get, doing="read", key=key, stop=stop)
    except RequestError as error:
        if error.code in ("PreconditionFailed", "InvalidRange"):
            raise _ReplacedError from None
        raise
    return place


def _write(descriptor: int, chunk: bytes, offset: int) -> int:
    view = memoryview(chunk)
    written = 0
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], offset + written)
    return written


def _hash(update: Callable[[bytes], None], descriptor: int, start: int, end: int) -> None:
    for offset in range(start, end, _CHUNK_BYTES):
        update(os.pread(descriptor, min(_CHUNK_BYTES, end - offset), offset))


@contextmanager
def _partial(path: Path) -> Iterator[tuple[Path, int]]:
    """Give a new file beside the target, which goes away unless it is renamed."""
    partial_path = path.with_name(f".partial-{uuid4().hex}")
    descriptor = os.open(partial_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        yield partial_path, descriptor
    finally:
        os.close(descriptor)
        partial_path.unlink(missing_ok=True)
