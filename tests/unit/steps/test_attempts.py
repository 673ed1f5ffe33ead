from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny.ledgers import ELSEWHERE, begin
from tiny.steps import step_spec

from kinetoscope.core.errors import CorruptError, DivergedError, PreemptedError, UserError
from kinetoscope.steps.attempts import acquire, check_beginning
from kinetoscope.steps.contract import Progress, StepStatus, status_key
from kinetoscope.steps.ledger.entries import Committed, Ended, Happening, Saved
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.storage.directory import DirectoryStore

SPEC = step_spec("toy", "toy_worker", "file:///nowhere", {}, run_id="rbbbbbbb", start=2)


def dead_process() -> ProcessIdentity:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    holder = ProcessIdentity.of(process.pid)
    process.communicate()
    return holder


def add(store: DirectoryStore, what: Happening, generation: int) -> None:
    Ledger(store).append(lambda _: what, generation)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def test_the_lease_of_a_dead_holder_is_taken_at_once(store: DirectoryStore) -> None:
    begin(store, process=dead_process())
    state = acquire(store, SPEC, lambda: False)
    assert state.generation == 2
    assert state.attempt is not None
    assert (state.attempt.run_id, state.attempt.start) == ("rbbbbbbb", 2)


def test_the_lease_of_one_that_said_that_it_ended_is_taken_at_once(store: DirectoryStore) -> None:
    begin(store)
    add(store, Saved(prefix="checkpoints/a", manifest="sha256:a", step=3), 1)
    add(store, Ended(code=1), 1)
    state = acquire(store, SPEC, lambda: False)
    assert state.attempt is not None
    assert state.attempt.checkpoint == "checkpoints/a"


def test_a_holder_that_committed_and_ended_meanwhile_leaves_nothing_to_do(
    store: DirectoryStore,
) -> None:
    begin(store)

    def commit_meanwhile() -> bool:
        add(store, Committed(result={}), 1)
        return False

    state = acquire(store, SPEC, commit_meanwhile)
    assert state.result == Committed(result={})
    assert state.generation == 1


def _ends(code: int | None, **more: Any) -> Ended | None:
    return None if code is None else Ended(code=code, reason="so it is", **more)


@pytest.mark.parametrize("code", [75, 78, None])
def test_attempts_that_end_for_free_and_come_no_further_are_braked(
    store: DirectoryStore, code: int | None
) -> None:
    """None: killed without a word, as a lost node is."""
    mine: dict[str, Any] = {"run_id": SPEC.run_id, "start": 2, "process": dead_process()}
    for _ in range(3):
        generation = begin(store, **mine)
        if (end := _ends(code)) is not None:
            add(store, end, generation)
    with pytest.raises(DivergedError, match="3 attempts of this start ended without") as caught:
        acquire(store, SPEC, lambda: False)
    assert "without a word" in caught.value.message or f"code {code}: so it is" in str(caught.value)
    # The next start of the run begins to count anew.
    resumed = SPEC.model_copy(update={"start": 3})
    assert acquire(store, resumed, lambda: False).generation == 4


@pytest.mark.parametrize(
    "ends",
    [
        [_ends(78), _ends(78)],
        [_ends(78), _ends(78), _ends(75, told_to_stop=True)],
        [_ends(78), _ends(78, steps=3.0), _ends(78), _ends(78)],
        [_ends(79), _ends(79), _ends(78)],
        [_ends(78), _ends(78), _ends(1)],  # counted by the budget of restarts
        [_ends(78), _ends(78), "saved"],
    ],
    ids=[
        "too few",
        "told to stop",
        "came further",
        "withdrawn",
        "a crash",
        "killed after it saved",
    ],
)
def test_others_are_not(store: DirectoryStore, ends: list[Any]) -> None:
    for end in ends:
        generation = begin(store, run_id=SPEC.run_id, start=2, process=dead_process())
        if end == "saved":
            end = Saved(prefix="checkpoints/a", manifest="sha256:a", step=3)
        add(store, end, generation)
    assert acquire(store, SPEC, lambda: False).generation == len(ends) + 1


def test_who_is_told_to_stop_before_it_begins_begins_nothing(store: DirectoryStore) -> None:
    with pytest.raises(PreemptedError, match=r"before an attempt of .* was begun"):
        acquire(store, SPEC, lambda: True)
    assert Ledger(store).state().number == 0


def test_one_that_was_killed_after_it_said_that_it_came_further_was_not_in_vain(
    store: DirectoryStore,
) -> None:
    """Parts of steps that are not trained are in no ledger: their status alone tells of them."""
    for _ in range(3):
        generation = begin(store, run_id=SPEC.run_id, start=2, process=dead_process())
    progress = Progress(done=7, total=9, kept=7, began=5)
    status = StepStatus(state="running", generation=generation, progress=progress)
    store.put_bytes(status_key(generation), status.to_bytes())
    state = acquire(store, SPEC, lambda: False)
    assert state.attempt is not None
    assert (state.attempt.inherited, state.fruitless) == (2, 0)


def test_a_step_that_has_lost_its_ledger_is_not_begun_anew(store: DirectoryStore) -> None:
    """What it saved would be taken for leftovers, and deleted."""
    generation = begin(store, process=dead_process())
    status = StepStatus(state="running", generation=generation)
    store.put_bytes(status_key(generation), status.to_bytes())
    store.delete_prefix("ledger")
    with pytest.raises(CorruptError, match="ledger is gone, and 1 objects of attempts") as caught:
        acquire(store, SPEC, lambda: False)
    assert "--fresh toy" in (caught.value.hint or "")


def test_a_step_that_is_begun_by_another_while_one_looks_has_lost_nothing(
    store: DirectoryStore,
) -> None:
    seen_before = Ledger(store).state()
    generation = begin(store)
    status = StepStatus(state="running", generation=generation)
    store.put_bytes(status_key(generation), status.to_bytes())
    check_beginning(store, seen_before, SPEC)


def test_what_an_earlier_version_began_is_refused(store: DirectoryStore) -> None:
    store.put_bytes("attempts/000001.json", ELSEWHERE.to_bytes())
    with pytest.raises(UserError, match="step toy was begun by an earlier version") as caught:
        acquire(store, SPEC, lambda: False)
    assert "--fresh toy" in (caught.value.hint or "")
