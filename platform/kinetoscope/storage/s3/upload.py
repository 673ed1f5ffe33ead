"""Uploads: in one request, or in parts by several threads."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import contextmanager, suppress
from functools import partial
from mimetypes import guess_type
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4
from xml.etree import ElementTree as ET

from minio.error import S3Error

from kinetoscope.core.errors import StorageError
from kinetoscope.core.units import MIB
from kinetoscope.storage.parallel import in_order
from kinetoscope.storage.s3.connection import Message, S3Connection
from kinetoscope.storage.s3.errors import GarbledError, RequestError
from kinetoscope.storage.store import ReplacedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

    from urllib3.response import BaseHTTPResponse

PART_BYTES = 8 * MIB
"""Size of a part; what is smaller is sent in one request."""
NUM_THREADS = 8
"""Parts on their way at once, and so in memory."""

SHA256_HEADER = "x-amz-meta-kinetoscope-sha256"
"""Metadata of every object that we write: the digest of its content."""
WRITE_HEADER = "x-amz-meta-kinetoscope-write"
"""Metadata that tells one write from all others."""

_MAX_PARTS = 10_000  # docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_MAX_STARTS = 3
_CHUNK_BYTES = MIB


class Source(Protocol):
    """What is uploaded; may be read from several threads."""

    size_bytes: int

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly so many bytes."""
        ...


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly so many bytes."""
        whole = offset == 0 and length == self.size_bytes
        return self._data if whole else self._data[offset : offset + length]


class FileSource:
    """A file as long as it was when it was opened: it may grow meanwhile, as logs do.

    Args:
        file: opened.
        path: of the file.
        digest: that its content must have; then each chunk is compared with what it was when that
            was found out. Empty: any content.
    """

    def __init__(self, file: io.FileIO, path: Path, digest: str = "") -> None:
        self._file = file
        self._path = path
        self.size_bytes = os.fstat(file.fileno()).st_size
        self._chunks: list[bytes] = []
        if digest:
            self._chunks = self._digest_chunks(digest)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly so many bytes, from a multiple of a MiB on.

        Raises:
            ReplacedError: the file shrank, or its content is another one.
        """
        data = self._read(offset, length)
        for at in range(0, len(data) if self._chunks else 0, _CHUNK_BYTES):
            found = hashlib.sha256(memoryview(data)[at : at + _CHUNK_BYTES]).digest()
            if found != self._chunks[(offset + at) // _CHUNK_BYTES]:
                raise ReplacedError(f"{self._path} changed while it was uploaded")
        return data

    def _digest_chunks(self, digest: str) -> list[bytes]:
        whole, chunks = hashlib.sha256(), []
        for offset in range(0, self.size_bytes, _CHUNK_BYTES):
            data = self._read(offset, min(_CHUNK_BYTES, self.size_bytes - offset))
            whole.update(data)
            chunks.append(hashlib.sha256(data).digest())
        if f"sha256:{whole.hexdigest()}" != digest:
            raise ReplacedError(f"the content of {self._path} is not {digest}")
        return chunks

    def _read(self, offset: int, length: int) -> bytes:
        pieces = []
        while length:
            piece = os.pread(self._file.fileno(), length, offset)
            if not piece:
                raise ReplacedError(f"{self._path} became shorter while it was uploaded")
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]


@contextmanager
def file_source(path: Path, digest: str = "") -> Iterator[FileSource]:
    """Open a file for an upload, whose content must have a digest where one is given."""
    with io.FileIO(path) as file:
        yield FileSource(file, path, digest)


class _UploadLostError(Exception):
    """The server has forgotten an upload or a part of it: aborted, expired, lost in a crash."""


def upload(connection: S3Connection, key: str, source: Source) -> None:
    """Create or replace an object; it appears whole.

    Memory: at most ``NUM_THREADS`` parts of ``PART_BYTES`` (64 MiB); beyond 78 GiB the parts grow,
    since there may be no more than 10,000 of them.

    Raises:
        RequestError: it could not be written, or nobody knows whether it was.
    """
    headers = object_headers(key, source)
    if source.size_bytes <= PART_BYTES:
        body = source.read(0, source.size_bytes)
        connection.request(Message("PUT", key, body, headers), doing="write")
        return
    for start in range(_MAX_STARTS):
        try:
            _upload_in_parts(connection, key, source, headers)
        except _UploadLostError:
            if start == _MAX_STARTS - 1:
                raise StorageError(
                    f"can't write s3://{connection.bucket}/{key}: the server has lost its "
                    f"upload {_MAX_STARTS} times",
                    hint="does a lifecycle rule, or somebody, abort uploads too early?",
                ) from None
        else:
            return


def object_headers(key: str, source: Source) -> dict[str, str]:
    """Return the headers of a new object: its type and its digest."""
    return {
        "Content-Type": guess_type(key)[0] or "application/octet-stream",
        SHA256_HEADER: _sha256(source),
    }


def _sha256(source: Source) -> str:
    sha = hashlib.sha256()
    for offset in range(0, source.size_bytes, _CHUNK_BYTES):
        sha.update(source.read(offset, min(_CHUNK_BYTES, source.size_bytes - offset)))
    return sha.hexdigest()


def _upload_in_parts(
    connection: S3Connection, key: str, source: Source, headers: dict[str, str]
) -> None:
    token = uuid4().hex
    begin = Message("POST", key, None, headers | {WRITE_HEADER: token}, {"uploads": ""})
    upload_id = connection.call(
        lambda: _upload_id(connection.send(begin)), doing="begin to write", key=key
    )
    chunks = -(-source.size_bytes // (_MAX_PARTS * _CHUNK_BYTES))
    part_bytes = max(PART_BYTES, chunks * _CHUNK_BYTES)
    offsets = range(0, source.size_bytes, part_bytes)
    tasks = [
        partial(_upload_part, connection, key, source, (upload_id, number), (offset, part_bytes))
        for number, offset in enumerate(offsets, start=1)
    ]
    try:
        etags = list(in_order(tasks, num_threads=NUM_THREADS))
        _complete(connection, key, upload_id, etags, token)
    except BaseException:
        _abort(connection, key, upload_id)
        raise


def _upload_part(
    connection: S3Connection,
    key: str,
    source: Source,
    part: tuple[str, int],
    place: tuple[int, int],
    stop: Event,
) -> str:
    upload_id, number = part
    offset, length = place
    body = source.read(offset, min(length, source.size_bytes - offset))
    query = {"partNumber": str(number), "uploadId": upload_id}
    message = Message("PUT", key, body, query=query)
    try:
        answer = connection.request(message, doing=f"write part {number} of", stop=stop)
    except RequestError as error:
        if error.code == "NoSuchUpload":
            raise _UploadLostError from None
        raise
    return answer.headers.get("ETag", "").strip('"')


def _complete(
    connection: S3Connection, key: str, upload_id: str, etags: list[str], token: str
) -> None:
    """Make the object of its parts.

    A first request may have done so before its answer got lost. Then the upload is unknown to the
    second, and the object's metadata tell whether it is ours.
    """
    root = ET.Element("CompleteMultipartUpload")
    for number, etag in enumerate(etags, start=1):
        part = ET.SubElement(root, "Part")
        ET.SubElement(part, "PartNumber").text = str(number)
        ET.SubElement(part, "ETag").text = f'"{etag}"'
    message = Message("POST", key, ET.tostring(root), query={"uploadId": upload_id})

    def send() -> None:
        answer = connection.send(message)
        # Errors that come late arrive with status 200:
        # docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
        if ET.fromstring(answer.data).tag.endswith("Error"):  # noqa: S314 - as minio-py does
            raise S3Error.fromxml(answer)

    try:
        connection.call(send, doing="finish", key=key)
    except RequestError as error:
        if error.code not in ("NoSuchUpload", "InvalidPart"):
            raise
        found = connection.head(key)
        if found is None or found.get(WRITE_HEADER) != token:
            raise _UploadLostError from None


def _abort(connection: S3Connection, key: str, upload_id: str) -> None:
    """Free the parts; where the server is gone, a lifecycle rule does it later."""

    def send() -> None:
        connection.send(Message("DELETE", key, query={"uploadId": upload_id}))

    with suppress(StorageError):
        connection.call(send, doing="abort the upload of", key=key, once=True)


def _upload_id(answer: BaseHTTPResponse) -> str:
    found = ET.fromstring(answer.data).find("{*}UploadId")  # noqa: S314 - as minio-py does
    if found is None or not found.text:
        raise GarbledError("the answer names no upload")
    return found.text
