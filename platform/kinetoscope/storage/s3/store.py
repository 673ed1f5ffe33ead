"""An object store in a bucket of any S3 server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import quote

from kinetoscope.core.errors import NotFoundError
from kinetoscope.core.hashing import digest_file
from kinetoscope.storage.keys import check_key
from kinetoscope.storage.s3.conditional import TRIAL_PREFIX, create, require_conditional_writes
from kinetoscope.storage.s3.connection import S3Connection, connect
from kinetoscope.storage.s3.download import download, read
from kinetoscope.storage.s3.errors import RequestError
from kinetoscope.storage.s3.listing import delete, delete_all, describe, list_tree
from kinetoscope.storage.s3.ranges import read_range
from kinetoscope.storage.s3.settings import S3Location, S3Settings
from kinetoscope.storage.s3.upload import SHA256_HEADER, BytesSource, file_source, upload
from kinetoscope.storage.store import ObjectStat, check_range

if TYPE_CHECKING:
    from collections.abc import Iterator


def open_s3_store(uri: str) -> S3Store:
    """Open the store at ``s3://BUCKET[/PREFIX]``, as the environment says; sends nothing."""
    location = S3Location.of(uri)
    return S3Store(connect(location.bucket, S3Settings.from_environment()), location.prefix)


class S3Store:
    """Objects of a bucket below a key prefix.

    Args:
        connection: to the bucket.
        prefix: key prefix without a trailing slash; empty for the whole bucket.
    """

    def __init__(self, connection: S3Connection, prefix: str = "") -> None:
        self._connection = connection
        self._root = f"{prefix}/" if prefix else ""

    def __repr__(self) -> str:
        return f"S3Store({self.uri!r})"

    @property
    def uri(self) -> str:
        """URI of the root, without a trailing slash."""
        return f"s3://{self._connection.bucket}/{quote(self._root)}".rstrip("/")

    def put_bytes(self, key: str, data: bytes) -> None:
        """Create or replace an object."""
        upload(self._connection, self._name(key), BytesSource(data))

    def put_bytes_if_absent(self, key: str, data: bytes) -> bool:
        """Create an object; return False, and change nothing, when it exists.

        Tells the truth even where the answer to the write got lost (``s3.conditional.create``).

        Raises:
            ConditionalWritesError: the server would overwrite.
            RequestError: among others, that nobody knows whether it was written.
        """
        name = self._name(key)
        require_conditional_writes(self._connection, self._root)
        return create(self._connection, name, data)

    def put_file(self, key: str, path: Path, *, digest: str = "") -> None:
        """Create or replace an object with the content of a local file; see ``ObjectStore``.

        The file may grow meanwhile (what comes later is left out). That it does not change
        otherwise is looked after where a digest is given.
        """
        name = self._name(key)
        with file_source(path, digest) as source:
            upload(self._connection, name, source)

    def get_bytes(self, key: str) -> bytes:
        """Return the content; raises ``NotFoundError``."""
        try:
            return read(self._connection, self._name(key))
        except RequestError as error:
            raise self._explained(key, error) from None

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` on, fewer where the object ends before."""
        check_range(offset, length)
        if length == 0:
            if self.stat(key) is None:
                raise self._not_found(key)
            return b""
        try:
            return read_range(self._connection, self._name(key), offset, length)
        except RequestError as error:
            raise self._explained(key, error) from None

    def get_file(self, key: str, path: Path, *, etag: str = "") -> None:
        """Write the content to a local file, which appears whole; see ``ObjectStore``."""
        try:
            download(self._connection, self._name(key), path, etag=etag)
        except RequestError as error:
            raise self._explained(key, error) from None

    def digest(self, key: str) -> str:
        """Return the sha256 that the writer noted; an object of others is downloaded for it."""
        headers = self._connection.head(self._name(key))
        if headers is None:
            raise self._not_found(key)
        if SHA256_HEADER in headers:
            return f"sha256:{headers[SHA256_HEADER]}"
        with TemporaryDirectory(prefix="digest-") as scratch:
            path = Path(scratch, "object")
            self.get_file(key, path)
            return digest_file(path)

    def local_path(self, key: str) -> None:
        """Return None: objects are not local files."""
        check_key(key)

    def stat(self, key: str) -> ObjectStat | None:
        """Describe an object, or return None when there is none."""
        headers = self._connection.head(self._name(key))
        return None if headers is None else describe(key, headers)

    def list(self, prefix: str = "") -> list[ObjectStat]:
        """Return the object named ``prefix`` and all below ``prefix/``, sorted by key."""
        stats = self._tree(prefix)
        listed = (s for s in stats if not s.key.rpartition("/")[2].startswith(TRIAL_PREFIX))
        return sorted(listed, key=lambda stat: stat.key)

    def delete(self, key: str) -> None:
        """Delete an object; nothing happens when there is none."""
        delete(self._connection, self._name(key))

    def delete_prefix(self, prefix: str) -> None:
        """Delete the object named ``prefix`` and all below ``prefix/``."""
        top = self._name(prefix)
        delete_all(self._connection, [stat.key for stat in list_tree(self._connection, top)])

    def _name(self, key: str) -> str:
        return self._root + check_key(key)

    def _tree(self, prefix: str) -> Iterator[ObjectStat]:
        top = self._name(prefix) if prefix else self._root
        for stat in list_tree(self._connection, top):
            yield replace(stat, key=stat.key.removeprefix(self._root))

    def _not_found(self, key: str) -> NotFoundError:
        return NotFoundError(f"no object {key!r} in {self.uri}")

    def _explained(self, key: str, error: RequestError) -> RequestError | NotFoundError:
        return self._not_found(key) if error.code == "NoSuchKey" else error
