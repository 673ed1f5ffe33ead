"""Holes to plant in the real code, each a change that somebody might take for a good one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kinetoscope.checkpoints import retention
from kinetoscope.checkpoints.read import read_checkpoint
from kinetoscope.core.errors import CorruptError, StorageError
from kinetoscope.steps import worker
from kinetoscope.steps.ledger import ledger as ledgers
from kinetoscope.steps.ledger.entries import Entry, LedgerState
from kinetoscope.steps.ledger.ledger import LEDGER, Ledger, entry_key
from kinetoscope.steps.results import keep_result
from kinetoscope.storage.store import ObjectStore
from kinetoscope.training.loop import checkpoints as loop_checkpoints
from kinetoscope.training.loop.checkpoints import StoreCheckpoints

Hole = Callable[[pytest.MonkeyPatch], None]


def numbers_are_deleted(patch: pytest.MonkeyPatch) -> None:
    """What the fold has is deleted: a number is free again for who was superseded."""
    real = Ledger._keep_fold

    def keep(self: Ledger, state: LedgerState) -> None:
        real(self, state)
        if self._store.stat(ledgers.FOLD_KEY) is not None and state.number % 2 == 0:
            for number in range(1, state.number):
                self._store.delete(entry_key(number))

    patch.setattr(Ledger, "_keep_fold", keep)


def a_position_is_skipped(patch: pytest.MonkeyPatch) -> None:
    """Where another was first, the entry goes behind all that a listing shows."""
    real = Ledger._put

    def put(self: Ledger, entry: Entry, data: bytes) -> bool:
        if real(self, entry, data):
            return True
        numbers = [int(s.key[-13:-5]) for s in self._store.list(LEDGER) if "fold" not in s.key]
        moved = entry.model_copy(update={"number": max(numbers) + 2})
        return real(self, moved, moved.to_bytes())

    patch.setattr(Ledger, "_put", put)
    patch.setattr(Ledger, "_follow", _follow_blindly)


def an_entry_goes_behind_a_listing(patch: pytest.MonkeyPatch) -> None:
    """Where another was first, the entry goes to the next free number, unchecked."""
    real = Ledger._put

    def put(self: Ledger, entry: Entry, data: bytes) -> bool:
        while not real(self, entry, data):
            entry = entry.model_copy(update={"number": entry.number + 1})
            data = entry.to_bytes()
        return True

    patch.setattr(Ledger, "_put", put)
    patch.setattr(Ledger, "_follow", _follow_blindly)


def _follow_blindly(self: Ledger, state: LedgerState, entry: Entry) -> LedgerState:
    """Compare nothing with what was before."""
    try:
        changes = {"number": state.number + 1, "generation": entry.generation}
        return state.model_copy(update={**state._changes(entry.what), **changes})
    except ValueError:
        return state


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Who writes takes the latest attempt's generation for its own."""
    real = Ledger.append

    def append(self: Ledger, happening: Any, generation: int) -> LedgerState:
        begins = happening.__qualname__.startswith("_begin")
        return real(self, happening, self.state().generation + begins)

    patch.setattr(Ledger, "append", append)


def a_loser_takes_the_entry_for_its_own(patch: pytest.MonkeyPatch) -> None:
    """The token is not compared."""

    def put(self: Ledger, entry: Entry, data: bytes) -> bool:
        try:
            self._store.put_bytes_if_absent(entry_key(entry.number), data)
        except StorageError:
            if self._entry(entry.number) is None:
                raise
        return True

    patch.setattr(Ledger, "_put", put)


def an_unknown_answer_is_a_yes(patch: pytest.MonkeyPatch) -> None:
    real = Ledger._put

    def put(self: Ledger, entry: Entry, data: bytes) -> bool:
        try:
            return real(self, entry, data)
        except StorageError:
            return True

    patch.setattr(Ledger, "_put", put)


def a_read_error_is_an_absence(patch: pytest.MonkeyPatch) -> None:
    real = Ledger._entry

    def entry(self: Ledger, number: int, stop: Any = None) -> Entry | None:
        try:
            return real(self, number, stop)
        except StorageError:
            return None

    patch.setattr(Ledger, "_entry", entry)


def the_fold_is_the_state(patch: pytest.MonkeyPatch) -> None:
    """A kept fold is trusted, and what came after it is not looked for."""
    real = Ledger._entries_after

    def after(self: Ledger, number: int) -> Iterator[Entry]:
        return iter(()) if self._state is None and number else real(self, number)

    patch.setattr(Ledger, "_entries_after", after)


def deleted_before_the_entry(patch: pytest.MonkeyPatch) -> None:
    def prune(store: ObjectStore, ledger: Ledger, *, generation: int, keep_last: int) -> list[str]:
        retention._delete(store, retention._surplus(ledger.check(generation), keep_last))
        return real(store, ledger, generation=generation, keep_last=keep_last)

    real = retention.prune
    patch.setattr(loop_checkpoints, "prune", prune)


def deleted_without_an_entry(patch: pytest.MonkeyPatch) -> None:
    def prune(store: ObjectStore, ledger: Ledger, *, generation: int, keep_last: int) -> list[str]:
        surplus = retention._surplus(ledger.check(generation), keep_last)
        retention._delete(store, surplus)
        return [*surplus]

    patch.setattr(loop_checkpoints, "prune", prune)


def all_that_is_not_known_is_swept(patch: pytest.MonkeyPatch) -> None:
    """Also what a later attempt has saved."""

    def sweep(store: ObjectStore, state: LedgerState) -> list[str]:
        found = {stat.key.rpartition("/")[0] for stat in store.list("checkpoints")}
        known = {saved.prefix for saved in state.checkpoints}
        retention._delete(store, found - known)
        return []

    patch.setattr(loop_checkpoints, "sweep", sweep)


def the_result_is_put_directly(patch: pytest.MonkeyPatch) -> None:
    """The generation is checked, and then the result is put."""

    def commit(self: worker.StepContext, outputs: worker.Outputs) -> None:
        real = Ledger.append

        def append(ledger: Ledger, happening: Any, generation: int) -> LedgerState:
            state = ledger.check(generation)
            result = state.model_copy(update={"result": happening(state)})
            keep_result(self.store, result)
            return real(ledger, happening, generation)

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self.ledger, "append", append.__get__(self.ledger))
            commit_(self, outputs)

    commit_ = worker.StepContext.commit
    patch.setattr(worker.StepContext, "commit", commit)


def a_read_error_is_damage(patch: pytest.MonkeyPatch) -> None:
    """An older checkpoint is an answer to a store that does not."""
    real = read_checkpoint

    def read(*args: Any, **options: Any) -> Any:
        try:
            return real(*args, **options)
        except StorageError as error:
            raise CorruptError(error.message) from None

    patch.setattr(loop_checkpoints, "read_checkpoint", read)


def one_look_is_enough(patch: pytest.MonkeyPatch) -> None:
    """What was read wrongly once counts as damaged."""
    patch.setattr(StoreCheckpoints, "load", StoreCheckpoints._read)


HOLES: list[tuple[Hole, int]] = [
    (numbers_are_deleted, 0),
    (a_position_is_skipped, 0),
    (an_entry_goes_behind_a_listing, 0),
    (no_fence, 0),
    (a_loser_takes_the_entry_for_its_own, 0),
    (an_unknown_answer_is_a_yes, 0),
    (a_read_error_is_an_absence, 23),
    (the_fold_is_the_state, 0),
    (deleted_before_the_entry, 0),
    (deleted_without_an_entry, 0),
    (all_that_is_not_known_is_swept, 1),
    (the_result_is_put_directly, 0),
    (a_read_error_is_damage, 7),
    (one_look_is_enough, 22),
]
"""Each with a seed that comes upon it soon."""
