"""A small model of what the ledger replaced: listings decide, and who writes looks first.

Each rank takes the newest checkpoint that it can read. The fence is looked at before a write. A
step that an attempt saves again is there already, and going back is not noted at all.
"""

from __future__ import annotations

import json
from pathlib import Path

from protocol.faulty_store import FaultyStore
from protocol.ranks import Rank, ThreadEngine

from kinetoscope.checkpoints.layout import MANIFEST, ROOT, CheckpointState, Place, parse_place
from kinetoscope.checkpoints.read import Checkpoint, read_checkpoint
from kinetoscope.checkpoints.write import Author, Tensors, write_checkpoint
from kinetoscope.core.errors import NotFoundError, StorageError, SupersededError
from kinetoscope.storage.store import ObjectStore

_ATTEMPTS = "attempts"
_RESULT = "result.json"


class ListingProtocol:
    """All that attempts share is the step's store; going back is in their memory alone."""

    def __init__(self, store: FaultyStore, folder: Path, keep: int) -> None:
        self._store = store
        self._folder = folder
        self._keep = keep
        self._back_to: dict[int, str] = {}

    def begin(self, number: int) -> int | None:
        del number
        generation = _latest(self._store)
        while self._store.stat(_RESULT) is None:
            generation += 1
            if self._store.put_bytes_if_absent(f"{_ATTEMPTS}/{generation}", b""):
                return generation
        return None

    def rank(self, generation: int, rank: int, engine: ThreadEngine) -> Rank:
        del rank, engine
        return ListingRank(self._store, generation, self._keep, self._back_to)

    def end(self, generation: int, code: int) -> None:
        """Nothing is noted."""

    def result(self) -> str | None:
        try:
            prefix: str = json.loads(self._store.get_bytes(_RESULT))
        except NotFoundError:
            return None
        except ValueError as error:
            raise StorageError(str(error)) from None
        return prefix


class ListingRank:
    """A rank that asks nobody."""

    def __init__(
        self, store: FaultyStore, generation: int, keep: int, back_to: dict[int, str]
    ) -> None:
        self._store = store
        self._generation = generation
        self._keep = keep
        self._back_to = back_to

    def agree(self) -> Checkpoint | None:
        if self._generation in self._back_to:
            prefix = self._back_to[self._generation]
            return read_checkpoint(self._store, prefix) if prefix else None
        for place in reversed(_places(self._store)):
            try:
                return read_checkpoint(self._store, place.prefix)
            except (StorageError, NotFoundError):
                continue
        return None

    def next_prefix(self, step: int) -> str:
        return Place(self._generation, 1, step).prefix

    def save(self, groups: Tensors, state: CheckpointState) -> str:
        prefix = self.next_prefix(state.step)
        if self._store.stat(f"{prefix}/{MANIFEST}") is None:
            self._check_fence()
            author = Author(self._generation)
            write_checkpoint(self._store, tensors=groups, state=state, author=author)
        for place in _places(self._store)[: -self._keep]:
            self._store.delete(f"{place.prefix}/{MANIFEST}")
            self._store.delete_prefix(place.prefix)
        return prefix

    def roll_back(self) -> str:
        before = _places(self._store)[:-1]
        prefix = before[-1].prefix if before else ""
        self._back_to[self._generation] = prefix
        return prefix

    def commit(self, prefix: str) -> None:
        self._check_fence()
        self._store.put_bytes(_RESULT, json.dumps(prefix).encode())

    def _check_fence(self) -> None:
        if _latest(self._store) != self._generation:
            raise SupersededError(f"attempt {self._generation} was superseded")


def _latest(store: ObjectStore) -> int:
    return max([int(stat.key.rpartition("/")[2]) for stat in store.list(_ATTEMPTS)], default=0)


def _places(store: ObjectStore) -> list[Place]:
    """Return the places of all whole checkpoints, of the newest attempt last."""
    found = [parse_place(stat.key) for stat in store.list(ROOT) if stat.key.endswith(MANIFEST)]
    return sorted(place for place in found if place is not None)
