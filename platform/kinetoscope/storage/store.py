"""The object store seam, and how a URI opens one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from kinetoscope.core.errors import ConfigError, StorageError

# Control characters and what is no text: neither a URL nor the XML of S3 can carry them.
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a listing says of an object."""

    key: str
    size_bytes: int


class ObjectStore(Protocol):
    """Objects under relative POSIX keys, rooted at a URI.

    An object is whole or absent: a reader never sees part of a write. Any URI below a store is the
    root of a store itself, so that a component can be handed just its own corner.
    """

    @property
    def uri(self) -> str:
        """URI of the root, without a trailing slash."""
        ...

    def put_bytes(self, key: str, data: bytes) -> None:
        """Create or replace an object."""
        ...

    def put_bytes_if_absent(self, key: str, data: bytes) -> bool:
        """Create an object; return False, and change nothing, when it exists."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Create or replace an object with the content of a local file."""
        ...

    def get_bytes(self, key: str) -> bytes:
        """Return the content; raises ``NotFoundError``."""
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Write the content to a local file; raises ``NotFoundError``."""
        ...

    def digest(self, key: str) -> str:
        """Return the sha256 of the content, as ``core.hashing`` writes it.

        Needs little memory, however large the object; raises ``NotFoundError``.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """Return the file that holds the object, or None where objects are not local files."""
        ...

    def stat(self, key: str) -> ObjectStat | None:
        """Describe an object, or return None when there is none."""
        ...

    def list(self, prefix: str = "") -> list[ObjectStat]:
        """Return the object named ``prefix`` and all below ``prefix/``, sorted by key."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object; nothing happens when there is none."""
        ...

    def delete_prefix(self, prefix: str) -> None:
        """Delete the object named ``prefix`` and all below ``prefix/``."""
        ...


def open_store(uri: str) -> ObjectStore:
    """Open the store rooted at a URI.

    Cheap, and repeatable: stores of one bucket share their connections.

    Args:
        uri: ``file:///absolute/folder`` or ``s3://bucket/prefix``; the environment says where S3 is
            and who asks (``storage/s3_settings.py``).

    Raises:
        ConfigError: for any other URI, and for wrong settings.
    """
    if uri.startswith("s3://"):
        from kinetoscope.storage.s3 import open_s3_store

        return open_s3_store(uri)
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        # What stands before an @ may be a password.
        told = "a URI with a user in it" if "@" in uri else repr(uri)
        raise ConfigError(
            f"no object store for {told}",
            hint="use file:///absolute/folder or s3://bucket/prefix",
        )
    from kinetoscope.storage.directory import DirectoryStore

    return DirectoryStore(Path(unquote(parts.path)))


def join_uri(uri: str, key: str) -> str:
    """Return the URI of a key below a store's URI."""
    return f"{uri.rstrip('/')}/{quote(check_key(key))}"


def check_key(key: str) -> str:
    """Return the key; raises ``StorageError`` unless it is relative and stays below its root."""
    parts = PurePosixPath(key).parts
    if (
        not parts
        or parts[0] == "/"
        or ".." in parts
        or "\\" in key
        or _UNSPEAKABLE.search(key)
        or str(PurePosixPath(key)) != key
    ):
        raise StorageError(
            f"bad object key {key!r}: a relative path without '..' and control characters is needed"
        )
    return key


def as_local(store: ObjectStore, key: str, scratch: Path) -> Path:
    """Return a local file with the object's content, downloaded below ``scratch`` if need be."""
    path = store.local_path(key)
    if path is None:
        path = scratch / key
        path.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(key, path)
    return path
