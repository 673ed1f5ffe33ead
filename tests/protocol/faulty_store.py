"""A store whose every call may go wrong, in each of the ways that real ones do."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from protocol.world import KilledError, Turn, World
from tiny.memory_store import MemoryStore

from kinetoscope.core.errors import StorageError
from kinetoscope.storage.store import ObjectStat

T = TypeVar("T")


class FaultyStore:
    """Objects in memory. Before each call the world may take a turn, and the call may fail.

    Attributes:
        world: that decides.
        objects: what is really there.
        created: the entries of the ledger, in the order in which they came to be.
        on_created: hears of each of them.
        on_deleted: hears of each key or prefix that is deleted.
    """

    def __init__(self, world: World, uri: str) -> None:
        self.world = world
        self.objects = MemoryStore(uri)
        self.on_created: Callable[[dict[str, Any]], None] = _nobody
        self.on_deleted: Callable[[str], None] = _nobody
        self._garbled: set[str] = set()
        self._lacks = [
            Turn("fails", _fail),
            Turn("fails, and the next", partial(world.be_away, 1)),
            Turn("fails, and the next four", partial(world.be_away, 4)),
            Turn("killed", _kill),
        ]

    @property
    def uri(self) -> str:
        return self.objects.uri

    def put_bytes(self, key: str, data: bytes) -> None:
        self._write(f"put {key}", lambda: self.objects.put_bytes(key, data))

    def put_bytes_if_absent(self, key: str, data: bytes) -> bool:
        def put() -> bool:
            there = self.objects.put_bytes_if_absent(key, data)
            if there and key.startswith("ledger/"):
                self.on_created(json.loads(data))
            return there

        return self._write(f"put {key} where nothing is", put)

    def put_file(self, key: str, path: Path, *, digest: str = "") -> None:
        assert not digest
        data = path.read_bytes()  # it may be gone when the write arrives
        self._write(f"put {key}", lambda: self.objects.put_bytes(key, data))

    def get_bytes(self, key: str) -> bytes:
        return self._read_content(key)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self._read(f"get {key}", lambda: self.objects.get_range(key, offset, length))

    def get_file(self, key: str, path: Path, *, etag: str = "") -> None:
        assert not etag
        path.write_bytes(self.get_bytes(key))

    def digest(self, key: str) -> str:
        return self._read(f"digest {key}", lambda: self.objects.digest(key))

    def local_path(self, key: str) -> Path | None:
        return self.objects.local_path(key)

    def stat(self, key: str) -> ObjectStat | None:
        return self._read(f"stat {key}", lambda: self.objects.stat(key))

    def list(self, prefix: str = "") -> list[ObjectStat]:
        return self._read(f"list {prefix}", lambda: self.objects.list(prefix))

    def delete(self, key: str) -> None:
        def delete() -> None:
            self.on_deleted(key)
            self.objects.delete(key)

        self._write(f"delete {key}", delete)

    def delete_prefix(self, prefix: str) -> None:
        def delete() -> None:
            self.on_deleted(prefix)
            self.objects.delete_prefix(prefix)

        self._write(f"delete all of {prefix}", delete)

    def _read(self, what: str, call: Callable[[], T]) -> T:
        self.world.pause(what, lambda: self._lacks)
        return call()

    def _read_content(self, key: str) -> bytes:
        garbled = False

        def garble() -> None:
            nonlocal garbled
            garbled = True

        def faults() -> list[Turn]:
            # Once a key: what two looks find alike counts as damage, and rightly.
            sound = key not in self._garbled and self.objects.stat(key) is not None
            return [*self._lacks, *(2 * [Turn("garbled", garble)] if sound else [])]

        self.world.pause(f"get {key}", faults)
        data = self.objects.get_bytes(key)
        if not garbled:
            return data
        self._garbled.add(key)
        return data[:-1] + bytes([data[-1] ^ 1])

    def _write(self, what: str, call: Callable[[], T]) -> T:
        after: list[Callable[[], None]] = []

        def late(then: Callable[[], None]) -> None:
            self.world.later(what, call)
            then()

        turns = [
            Turn("not done, and fails", _fail),
            Turn("not done, and the next four fail", partial(self.world.be_away, 4)),
            Turn("done, and the answer is lost", partial(after.append, _fail)),
            Turn("on its way, and fails", partial(late, _fail)),
            Turn("on its way, and killed", partial(late, _kill)),
            Turn("killed before", _kill),
            Turn("done, and killed", partial(after.append, _kill)),
            Turn("done, and done again later", partial(after.append, partial(late, _nothing))),
        ]
        self.world.pause(what, lambda: turns)
        result = call()
        for then in after:
            then()
        return result


def _fail() -> None:
    raise StorageError("no answer")


def _kill() -> None:
    raise KilledError


def _nobody(told: object) -> None:
    """It is of no interest."""


def _nothing() -> None:
    """All goes well."""
