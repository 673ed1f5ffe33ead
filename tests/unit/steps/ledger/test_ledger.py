"""The ledger over real files; `tests/protocol` has it under attempts that overlap."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kinetoscope.core.errors import CorruptError, SupersededError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.steps.ledger.entries import (
    Attempt,
    Committed,
    Damaged,
    Ended,
    Happening,
    LedgerState,
    Pruned,
    RolledBack,
    Saved,
)
from kinetoscope.steps.ledger.ledger import FOLD_KEY, Ledger, ResultThereError, entry_key
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.storage.directory import DirectoryStore
from kinetoscope.storage.store import ObjectStat

ATTEMPT = Attempt(run_id="r", process=ProcessIdentity(host="h", pid=1, started_at=0.0))


def saved(step: int, save: str = "a") -> Saved:
    return Saved(prefix=f"checkpoints/{step}-{save}", manifest=f"sha256:{step}{save}", step=step)


def just(what: Happening) -> Callable[[LedgerState], Happening]:
    return lambda _: what


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def test_the_state_is_the_fold_of_all_entries(store: DirectoryStore) -> None:
    ledger = Ledger(store)
    ledger.append(just(ATTEMPT), 1)
    for step in (10, 20, 30):
        ledger.append(just(saved(step)), 1)
    ledger.append(just(Pruned(prefixes=("checkpoints/10-a",))), 1)
    ledger.append(just(Ended(code=75, steps=30)), 1)
    ledger.append(just(ATTEMPT.model_copy(update={"checkpoint": "checkpoints/30-a"})), 2)
    ledger.append(just(Damaged(prefix="checkpoints/30-a")), 2)
    state = ledger.append(just(saved(30, "b")), 2)
    assert state == Ledger(store).state()
    assert [c.prefix for c in state.checkpoints] == ["checkpoints/20-a", "checkpoints/30-b"]
    assert state.doomed == ("checkpoints/10-a",)
    assert (state.number, state.generation, state.ended) == (9, 2, None)


class BegunMeanwhile(DirectoryStore):
    """A store in which another process begins the ledger right before the first list of it."""

    def list(self, prefix: str = "") -> list[ObjectStat]:
        first = DirectoryStore(self._root)
        if first.stat(entry_key(1)) is None:
            Ledger(first).append(just(ATTEMPT), 1)
        return super().list(prefix)


def test_a_ledger_that_is_begun_between_two_looks_is_whole(tmp_path: Path) -> None:
    state = Ledger(BegunMeanwhile(tmp_path)).state()
    assert (state.number, state.generation) == (1, 1)


def test_a_rollback_makes_what_came_later_count_no_more(store: DirectoryStore) -> None:
    ledger = Ledger(store)
    ledger.append(just(ATTEMPT), 1)
    for step in (10, 20, 30):
        ledger.append(just(saved(step)), 1)
    back = RolledBack(to="checkpoints/10-a", skipped=((0, 12),))
    ledger.append(just(back), 1)
    state = ledger.append(just(saved(20, "b")), 1)  # the same step again, in the same attempt
    assert [c.prefix for c in state.checkpoints] == ["checkpoints/10-a", "checkpoints/20-b"]
    assert state.doomed == ("checkpoints/20-a", "checkpoints/30-a")
    assert state.skipped == ((0, 12),)


def test_what_can_not_follow_is_not_added(store: DirectoryStore) -> None:
    """An entry is there for ever: one that nobody can fold would end the step."""
    ledger = Ledger(store)
    ledger.append(just(ATTEMPT), 1)
    state = ledger.append(just(saved(10)), 1)
    with pytest.raises(ValueError, match="goes back to checkpoints/5-a, which does not count"):
        ledger.append(just(RolledBack(to="checkpoints/5-a")), 1)
    assert Ledger(store).state() == state
    assert ledger.append(just(saved(20)), 1).number == 3


def test_an_older_attempt_adds_nothing_after_a_newer_one_began(store: DirectoryStore) -> None:
    old, new = Ledger(store), Ledger(store)
    old.append(just(ATTEMPT), 1)
    old.append(just(saved(10)), 1)
    new.append(just(ATTEMPT), 2)
    for what in (saved(20), Committed(result={}), Pruned(prefixes=("checkpoints/10-a",))):
        with pytest.raises(SupersededError, match="attempt 1 was superseded by attempt 2"):
            old.append(just(what), 1)
    new.append(just(Committed(result={"x": 1})), 2)
    with pytest.raises(ResultThereError):
        new.append(just(saved(30)), 2)
    assert Ledger(store).state().result == Committed(result={"x": 1})


def test_two_that_begin_at_once_choose_afresh(store: DirectoryStore) -> None:
    """The second sees what the first has saved meanwhile."""
    one, other = Ledger(store), Ledger(store)
    seen: list[int] = []

    def late(state: LedgerState) -> Happening:
        seen.append(state.number)
        if len(seen) == 1:
            one.append(just(ATTEMPT), 1)
            one.append(just(saved(10)), 1)
        return ATTEMPT.model_copy(
            update={"checkpoint": "".join(c.prefix for c in state.checkpoints)}
        )

    with pytest.raises(SupersededError):
        other.append(late, 1)
    assert seen == [0, 2]
    state = other.append(late, 2)
    assert state.attempt is not None
    assert state.attempt.checkpoint == "checkpoints/10-a"


@pytest.mark.parametrize("what", ["missing", "old", "damaged", "of another ledger"])
def test_the_fold_is_only_a_copy(store: DirectoryStore, tmp_path: Path, what: str) -> None:
    ledger = Ledger(store)
    ledger.append(just(ATTEMPT), 1)
    for step in range(40):
        state = ledger.append(just(saved(step)), 1)
    if what == "missing":
        store.delete(FOLD_KEY)
    elif what == "damaged":
        store.put_bytes(FOLD_KEY, store.get_bytes(FOLD_KEY)[:-9])
    elif what == "of another ledger":
        other = DirectoryStore(tmp_path / "other")
        twin = Ledger(other)
        twin.append(just(ATTEMPT), 1)
        for step in range(31):
            twin.append(just(saved(step, "x")), 1)
        store.put_bytes(FOLD_KEY, other.get_bytes(FOLD_KEY))
    assert Ledger(store).state() == state


def test_a_ledger_that_was_copied_whole_from_another_step_is_told(tmp_path: Path) -> None:
    ledger = Ledger(DirectoryStore(tmp_path / "toy" / "aa"))
    ledger.append(just(ATTEMPT), 1)
    for step in range(15):
        ledger.append(just(saved(step)), 1)
    shutil.copytree(tmp_path / "toy" / "aa", tmp_path / "toy" / "bb")
    with pytest.raises(CorruptError, match="it is of toy/aa, not of toy/bb"):
        Ledger(DirectoryStore(tmp_path / "toy" / "bb")).state()


class Counting(DirectoryStore):
    """Counts what is read."""

    reads = 0
    lists = 0

    def get_bytes(self, key: str) -> bytes:
        self.reads += 1
        return super().get_bytes(key)

    def list(self, prefix: str = "") -> list[ObjectStat]:
        self.lists += 1
        return super().list(prefix)


def test_a_long_ledger_costs_a_few_reads(tmp_path: Path) -> None:
    ledger = Ledger(DirectoryStore(tmp_path))
    ledger.append(just(ATTEMPT), 1)
    for step in range(200):
        ledger.append(just(saved(step)), 1)
    counting = Counting(tmp_path)
    fresh = Ledger(counting)
    assert fresh.state().number == 201
    assert counting.reads < 20
    before = counting.reads
    fresh.state()
    assert counting.reads == before + 1


def test_a_million_entries_cost_no_more(tmp_path: Path) -> None:
    store = Counting(tmp_path)
    ledger = Ledger(store)
    ledger.append(just(ATTEMPT), 1)
    gone: tuple[str, ...] = ()
    sizes = []
    for step in range(100):  # saved and given up again and again, as a long training does
        state = ledger.append(just(saved(step)), 1)
        surplus = tuple(c.prefix for c in state.checkpoints[:-2])
        if surplus:
            state = ledger.append(just(Pruned(prefixes=surplus, deleted=gone)), 1)
            gone = surplus
        sizes.append(len(state.to_bytes()))
    assert max(sizes[20:]) - min(sizes[20:]) < 64  # longer numbers alone
    last = next(reversed(list(ledger.entries()))).model_copy(update={"number": 1_000_000})
    store.put_bytes(entry_key(last.number), last.to_bytes())
    here = {"number": last.number, "digest": digest_bytes(last.to_bytes())}
    store.put_bytes(FOLD_KEY, state.model_copy(update=here).to_bytes())
    store.reads = store.lists = 0
    fresh = Ledger(store)
    assert fresh.append(just(saved(101)), 1).number == 1_000_001
    assert fresh.check(1).newest == saved(101)
    assert (store.reads, store.lists) == (4, 0)


@pytest.mark.parametrize("what", ["deleted", "swapped", "changed"])
def test_holes_and_changes_are_told(store: DirectoryStore, what: str) -> None:
    ledger = Ledger(store)
    ledger.append(just(ATTEMPT), 1)
    for step in range(5):
        ledger.append(just(saved(step)), 1)
    if what == "deleted":  # whoever writes at the hole does not follow on what he can't see
        store.delete(entry_key(3))
        assert Ledger(store).state().number == 2
        Ledger(store).append(just(saved(99)), 1)
    elif what == "swapped":
        third = store.get_bytes(entry_key(3))
        store.put_bytes(entry_key(3), store.get_bytes(entry_key(4)))
        store.put_bytes(entry_key(4), third)
    else:
        store.put_bytes(
            entry_key(3), store.get_bytes(entry_key(3)).replace(b'"step": 1', b'"step": 7')
        )
    with pytest.raises(CorruptError, match=r"0000000\d\.json"):
        Ledger(store).state()
