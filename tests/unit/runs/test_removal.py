from __future__ import annotations

from pathlib import Path

import pytest
from tiny.ledgers import begin
from tiny.steps import step_spec

from kinetoscope.runs.removal import remove_step
from kinetoscope.steps.attempts import acquire
from kinetoscope.steps.contract import StepResult, StepStatus, status_key
from kinetoscope.steps.ledger.entries import Committed, Ended, Happening, Saved
from kinetoscope.steps.ledger.ledger import FOLD_KEY, Ledger, entry_key
from kinetoscope.steps.results import keep_result, read_result
from kinetoscope.storage.directory import DirectoryStore

SPEC = step_spec("toy", "toy_worker", "file:///nowhere", {})


class KilledError(Exception):
    pass


class Mortal(DirectoryStore):
    """Whoever uses it is killed after some deletions."""

    left = 0

    def delete(self, key: str) -> None:
        self._die_or_go_on()
        super().delete(key)

    def delete_prefix(self, prefix: str) -> None:
        self._die_or_go_on()
        super().delete_prefix(prefix)

    def _die_or_go_on(self) -> None:
        if not self.left:
            raise KilledError
        self.left -= 1


def done_step(store: DirectoryStore) -> None:
    """Leave what a training does whose first attempt was stopped."""
    ends: list[Happening] = [Ended(code=75, told_to_stop=True), _committed()]
    for generation, end in enumerate(ends, start=1):
        assert begin(store) == generation
        status = StepStatus(state="stopped", generation=generation)
        store.put_bytes(status_key(generation), status.to_bytes())
        prefix = f"checkpoints/{generation}"
        store.put_bytes(f"{prefix}/weights", b"x")
        _add(store, Saved(prefix=prefix, manifest="sha256:a", step=generation), generation)
        _add(store, end, generation)
    store.put_bytes("outputs/thing", b"x")
    keep_result(store, Ledger(store).state())
    assert store.stat(FOLD_KEY) is not None


def _add(store: DirectoryStore, what: Happening, generation: int) -> None:
    Ledger(store).append(lambda _: what, generation)


def _committed() -> Committed:
    result = StepResult(step="toy", fingerprint="0", generation=2, artifacts={})
    return Committed(result=result.model_dump(mode="json"))


@pytest.mark.parametrize("deletions", range(1, 13))
def test_a_removal_that_was_cut_short_leaves_a_step_whole_or_to_be_begun(
    tmp_path: Path, deletions: int
) -> None:
    path = tmp_path / "steps" / "toy" / "0"
    store = Mortal(path)
    done_step(store)
    store.left = deletions
    try:
        remove_step(store)
    except KilledError:
        assert store.stat(entry_key(1)) is not None
    else:
        assert store.list() == []
    if read_result(path.as_uri()) is not None:
        assert store.stat("outputs/thing") is not None
        return
    _let_the_last_attempt_end(DirectoryStore(path))
    assert acquire(store, SPEC, lambda: False).result is None


def _let_the_last_attempt_end(store: DirectoryStore) -> None:
    """Nobody knows of a process elsewhere that it is gone: its lease would have to run out."""
    state = Ledger(store).state()
    if state.number and not state.ended and not state.result:
        Ledger(store).append(lambda _: Ended(code=75), state.generation)
