"""An object store in memory, which keeps the contract of all stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock

from kinetoscope.core.errors import NotFoundError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.storage.keys import check_key, join_uri
from kinetoscope.storage.store import ObjectStat, ReplacedError, check_range


@dataclass
class Objects:
    """What stores of one memory share."""

    content: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """Content and ETag by key below the root."""
    lock: RLock = field(default_factory=RLock)
    num_writes: int = 0


class MemoryStore:
    """Objects in a dictionary, for several threads.

    Args:
        uri: of the root.
        objects: of another store, to share; by default there are none.
        prefix: of the keys there, with a trailing slash where there is one.
    """

    def __init__(self, uri: str, objects: Objects | None = None, prefix: str = "") -> None:
        self._uri = uri
        self._objects = objects or Objects()
        self._prefix = prefix

    @property
    def uri(self) -> str:
        return self._uri

    def below(self, key: str) -> MemoryStore:
        """Return the store rooted at a key."""
        return MemoryStore(join_uri(self._uri, key), self._objects, f"{self._name(key)}/")

    def put_bytes(self, key: str, data: bytes) -> None:
        name = self._name(key)
        with self._objects.lock:
            self._objects.num_writes += 1
            self._objects.content[name] = (data, f"{self._objects.num_writes:x}")

    def put_bytes_if_absent(self, key: str, data: bytes) -> bool:
        with self._objects.lock:
            if self._name(key) in self._objects.content:
                return False
            self.put_bytes(key, data)
            return True

    def put_file(self, key: str, path: Path, *, digest: str = "") -> None:
        data = path.read_bytes()
        if digest and digest_bytes(data) != digest:
            raise ReplacedError(f"the content of {path} is not {digest}")
        self.put_bytes(key, data)

    def get_bytes(self, key: str) -> bytes:
        return self._found(key)[0]

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        check_range(offset, length)
        return self._found(key)[0][offset : offset + length]

    def get_file(self, key: str, path: Path, *, etag: str = "") -> None:
        data, found = self._found(key)
        if etag and found != etag:
            raise ReplacedError(f"object {key!r} in {self.uri} is another one than {etag}")
        path.write_bytes(data)

    def digest(self, key: str) -> str:
        return digest_bytes(self._found(key)[0])

    def local_path(self, key: str) -> Path | None:
        check_key(key)
        return None

    def stat(self, key: str) -> ObjectStat | None:
        found = self._objects.content.get(self._name(key))
        return ObjectStat(key, len(found[0]), found[1]) if found else None

    def list(self, prefix: str = "") -> list[ObjectStat]:
        names = self._below(prefix)
        found = [self.stat(name.removeprefix(self._prefix)) for name in sorted(names)]
        return [stat for stat in found if stat is not None]

    def delete(self, key: str) -> None:
        self._objects.content.pop(self._name(key), None)

    def delete_prefix(self, prefix: str) -> None:
        with self._objects.lock:
            for name in self._below(check_key(prefix)):
                del self._objects.content[name]

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _found(self, key: str) -> tuple[bytes, str]:
        try:
            return self._objects.content[self._name(key)]
        except KeyError:
            raise NotFoundError(f"no object {key!r} in {self.uri}") from None

    def _below(self, prefix: str) -> tuple[str, ...]:
        top = self._name(prefix) if prefix else ""
        start = f"{top}/" if prefix else self._prefix
        with self._objects.lock:
            names = tuple(self._objects.content)
        return tuple(name for name in names if name == top or name.startswith(start))
