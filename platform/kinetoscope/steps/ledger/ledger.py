"""The ledger of a step: one sequence of entries that nobody rewrites, whose fold is its state.

    ledger/00000001.json    the first entry
    ledger/fold.json        a copy of the state after some entry; may be missing, or old

An entry is put where nothing is, at the position after the last one that its writer has folded. So
whoever writes has seen all that came before, and a writer that was superseded can add nothing more:
the position that it knows is taken. What is not in the ledger has not happened. No entry is ever
deleted: where a number is free again, a writer that nobody expects any more could take it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from threading import Event
from uuid import uuid4

from kinetoscope.core.errors import CorruptError, StorageError, SupersededError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.steps.contract import STEPS, split_step_uri, step_identity
from kinetoscope.steps.ledger.entries import Attempt, Entry, Happening, LedgerState
from kinetoscope.storage.parallel import in_order
from kinetoscope.storage.records import read_record, read_with_digest, shown_name
from kinetoscope.storage.store import ObjectStore

LEDGER = "ledger"
FOLD_KEY = f"{LEDGER}/fold.json"
# Below the root of a store: small objects, each of which has to stay.
LEDGER_KEYS = f"{STEPS}/*/*/{LEDGER}/*"
LARGEST_ENTRY_BYTES = 1 << 20
_FOLD_EVERY = 16
# Entries that are read at once where many are missing: from one on, twice as many each time.
_MOST_AT_ONCE = 64

_log = logging.getLogger(__name__)


class ResultThereError(SupersededError):
    """The step has a result: nothing is added any more."""


class Ledger:
    """Reads and extends a step's ledger. Not for several threads at once.

    Args:
        store: of the step, whose last two folders are its name and fingerprint.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._step = step_identity(*split_step_uri(store.uri))
        self._state: LedgerState | None = None

    def state(self) -> LedgerState:
        """Return the state after all entries that there are now.

        Reads one object where nothing was added since the last call.

        Raises:
            CorruptError: an entry is missing, was changed, does not follow on the one before, or
                is of another step.
        """
        state = self._folded(self._state if self._state is not None else self._start())
        if not state.number and (found := self._store.list(LEDGER)):
            # Somebody may have begun it since, of whom the list tells already.
            state = self._folded(state)
            if not state.number:
                name = shown_name(self._store, entry_key(1))
                raise CorruptError(
                    f"{name} is missing, and {len(found)} objects are beside it",
                    hint="see whether something expires objects there (docs/storage.md)",
                )
        self._state = state
        return state

    def _folded(self, state: LedgerState) -> LedgerState:
        """Return a state after the entries that follow on it."""
        for entry in self._entries_after(state.number):
            state = self._follow(state, entry)
        return state

    def entries(self) -> Iterator[Entry]:
        """Yield all entries from the first on; raises as `state` does."""
        state = LedgerState()
        for entry in self._entries_after(0):
            state = self._follow(state, entry)
            yield entry

    def check(self, generation: int) -> LedgerState:
        """Return the state; raise ``SupersededError`` when a later attempt has begun."""
        state = self.state()
        _check(state, generation)
        return state

    def append(self, happening: Callable[[LedgerState], Happening], generation: int) -> LedgerState:
        """Add an entry; return the state after it.

        Args:
            happening: says what to add, given the state that it follows on; asked again when
                another writer was first. What it raises ends the call.
            generation: of the writer's attempt; the next one for an `Attempt`.

        Raises:
            SupersededError: a later attempt has begun.
            ResultThereError: the step has a result.
            StorageError: nobody knows whether it was added; where it was, it counts.
            ValueError: it can't follow on the state; nothing was added.
        """
        token = uuid4().hex
        while True:
            state = self.state()
            what = happening(state)
            _check_next(state, what, generation)
            entry = Entry(
                step=self._step,
                number=state.number + 1,
                at=time.time(),
                generation=generation,
                token=token,
                before=state.digest,
                what=what,
            )
            data = entry.to_bytes()
            # Before it is put: what can't follow would stay there for ever.
            following = state.after(entry.model_copy(update={"digest": digest_bytes(data)}))
            if self._put(entry, data):
                self._state = following
                self._keep_fold(following)
                return following

    def _put(self, entry: Entry, data: bytes) -> bool:
        """Return whether the entry is there now; False where another one is."""
        key = entry_key(entry.number)
        try:
            if self._store.put_bytes_if_absent(key, data):
                return True
        except StorageError:
            found = self._entry(entry.number)
            if found is None:
                raise
        else:
            found = self._entry(entry.number)
        return found is not None and found.token == entry.token

    def _entry(self, number: int, _stop: Event | None = None) -> Entry | None:
        found = read_with_digest(self._store, entry_key(number), Entry)
        return found[0].model_copy(update={"digest": found[1]}) if found is not None else None

    def _entries_after(self, number: int) -> Iterator[Entry]:
        at_once = 1
        while True:
            numbers = range(number + 1, number + 1 + at_once)
            tasks = [partial(self._entry, each) for each in numbers]
            for entry in in_order(tasks, num_threads=16) if at_once > 1 else [tasks[0]()]:
                if entry is None:
                    return
                yield entry
            number += at_once
            at_once = min(2 * at_once, _MOST_AT_ONCE)

    def _follow(self, state: LedgerState, entry: Entry) -> LedgerState:
        try:
            if entry.step != self._step:
                raise ValueError(f"it is of {entry.step}, not of {self._step}")
            return state.after(entry)
        except ValueError as error:
            name = shown_name(self._store, entry_key(entry.number))
            raise CorruptError(f"{name} does not follow on what is before it: {error}") from None

    def _start(self) -> LedgerState:
        """Return the kept state, if it is one of this ledger; else that of no entry."""
        try:
            kept = read_record(self._store, FOLD_KEY, LedgerState)
            last = self._entry(kept.number) if kept is not None else None
        except CorruptError as error:
            _log.warning("folding the ledger anew: %s", error.message)
            return LedgerState()
        if kept is None or last is None or last.digest != kept.digest:
            return LedgerState()
        # With an entry of another step, all is read from the first one on, which tells of it.
        return kept if last.step == self._step else LedgerState()

    def _keep_fold(self, state: LedgerState) -> None:
        if state.number % _FOLD_EVERY == 0 or state.result is not None:
            try:
                self._store.put_bytes(FOLD_KEY, state.to_bytes())
            except StorageError as error:  # it can be made again from the entries
                _log.warning("the fold of %s is not kept: %s", self._store.uri, error.message)


def entry_key(number: int) -> str:
    """Return the key of an entry; numbers begin at 1."""
    return f"{LEDGER}/{number:08d}.json"


def _check(state: LedgerState, generation: int) -> None:
    if generation != state.generation:
        raise SupersededError(f"attempt {generation} was superseded by attempt {state.generation}")


def _check_next(state: LedgerState, what: Happening, generation: int) -> None:
    if state.result is not None:
        raise ResultThereError(f"the step has its result, of attempt {state.generation}")
    _check(state, generation - 1 if isinstance(what, Attempt) else generation)
    if state.ended is not None and not isinstance(what, Attempt):
        raise SupersededError(f"attempt {generation} has ended")
