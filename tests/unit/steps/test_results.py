from __future__ import annotations

from pathlib import Path

import pytest
from tiny.ledgers import begin

from kinetoscope.core.errors import CorruptError
from kinetoscope.steps.contract import RESULT_KEY, StepResult
from kinetoscope.steps.ledger.entries import Committed
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.results import keep_result, read_result
from kinetoscope.storage.directory import DirectoryStore

RESULT = StepResult(step="toy", fingerprint="aa", generation=1, artifacts={})
OTHER = RESULT.model_copy(update={"fingerprint": "bb"})


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """The store of a step that is done."""
    store = DirectoryStore(tmp_path / "toy" / "aa")
    begin(store)
    committed = Committed(result=RESULT.model_dump(mode="json"))
    keep_result(store, Ledger(store).append(lambda _: committed, 1))
    return store


@pytest.mark.parametrize(
    "copy", [b"", RESULT.to_bytes()[:50], OTHER.to_bytes()], ids=["empty", "cut", "of another"]
)
def test_a_damaged_copy_of_the_result_costs_nothing_while_the_ledger_has_it(
    store: DirectoryStore, copy: bytes
) -> None:
    expected = read_result(store.uri)
    assert expected is not None
    store.put_bytes(RESULT_KEY, copy)
    assert read_result(store.uri) == expected
    store.delete_prefix("ledger")
    with pytest.raises(CorruptError, match=r"result\.json"):
        read_result(store.uri)
