"""The object store seam: what every store does. `storage.open` opens one by its URI."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kinetoscope.core.errors import StorageError


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a listing says of an object."""

    key: str
    size_bytes: int
    etag: str = field(default="", compare=False)
    """Another one after every replacement; empty where the server gives none."""


class ReplacedError(StorageError):
    """An object is another one than the one that was asked for."""


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

    def put_file(self, key: str, path: Path, *, digest: str = "") -> None:
        """Create or replace an object with the content of a local file.

        Args:
            key: of the object.
            path: of the file.
            digest: that the content must have; empty: any.

        Raises:
            ReplacedError: the file's content has another digest; nothing was written.
        """
        ...

    def get_bytes(self, key: str) -> bytes:
        """Return the content; raises ``NotFoundError``."""
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` on, fewer where the object ends before.

        Past the end that is none. What is read is of one moment, but not compared with the digest.

        Raises:
            NotFoundError: there is no such object, however many bytes are asked for.
            ValueError: the offset or the length is negative.
        """
        ...

    def get_file(self, key: str, path: Path, *, etag: str = "") -> None:
        """Write the content to a local file.

        Args:
            key: of the object.
            path: of the file.
            etag: that the object must have, as `stat` and `list` told it; empty: any.

        Raises:
            NotFoundError: there is no such object.
            ReplacedError: it has another ETag.
        """
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


def check_range(offset: int, length: int) -> None:
    """Raise ``ValueError`` where an offset or a length is negative."""
    if offset < 0 or length < 0:
        raise ValueError(f"offset={offset} and length={length} must not be negative")
