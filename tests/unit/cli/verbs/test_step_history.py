"""``kino show --step --history``: what a ledger tells of a step."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiny.ledgers import begin
from tiny.runs import STEPS, make_run
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.runs.records import Run
from kinetoscope.steps.contract import StepResult, StepStatus, status_key
from kinetoscope.steps.ledger.entries import (
    Committed,
    Damaged,
    Ended,
    Happening,
    Pruned,
    RolledBack,
    Saved,
)
from kinetoscope.steps.ledger.ledger import Ledger, entry_key
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

runner = CliRunner()


def show(*args: str, code: int = 0) -> Any:
    result = runner.invoke(app, ["show", "raaaaaaa", *args])
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


@pytest.fixture
def store() -> ObjectStore:
    run = make_run("raaaaaaa")
    return _step_store(run)


def add(ledger: Ledger, what: Happening, generation: int) -> None:
    ledger.append(lambda _: what, generation)


def _step_store(run: Run) -> ObjectStore:
    record = run.step(STEPS[1])
    assert record is not None
    return open_store(run.step_uri(record))


def test_a_ledger_is_told_as_a_story(store: ObjectStore) -> None:
    ledger = Ledger(store)
    told: list[Happening] = [
        Saved(prefix="checkpoints/a", manifest="sha256:a", step=10),
        Saved(prefix="checkpoints/b", manifest="sha256:b", step=20),
        Damaged(prefix="checkpoints/b", reason="a flipped byte"),
        RolledBack(to="checkpoints/a"),
        Pruned(prefixes=("checkpoints/b",)),
        Ended(code=78, reason="rank 3 is gone", steps=20),
    ]
    for what in told:
        add(ledger, what, 1)
    begin(store, checkpoint="checkpoints/a", start=2)
    result = StepResult(step=STEPS[1], fingerprint="raaaaaaa", generation=2, artifacts={})
    add(ledger, Committed(result=result.model_dump(mode="json")), 2)
    lines = show("--step", STEPS[1], "--history").splitlines()
    assert [line.split("  ")[1] for line in lines[-9:]] == [
        "attempt 1 begins, for start 0 of run raaaaaaa on elsewhere, from nothing",
        "attempt 1 saves step 10 as checkpoints/a",
        "attempt 1 saves step 20 as checkpoints/b",
        "attempt 1 finds checkpoints/b damaged, which counts no more: a flipped byte",
        "attempt 1 goes back to checkpoints/a",
        "attempt 1 gives up checkpoints/b",
        "attempt 1 ends with code 78: rank 3 is gone (came further by 20)",
        "attempt 2 begins, for start 2 of run raaaaaaa on elsewhere, from checkpoints/a",
        "attempt 2 commits the result",
    ]
    history = json.loads(show("--step", STEPS[1], "--history", "--json"))["history"]
    assert [entry["number"] for entry in history] == list(range(1, 10))
    assert history[6]["details"] == {
        "code": 78,
        "reason": "rank 3 is gone",
        "hint": "",
        "steps": 20.0,
        "told_to_stop": False,
    }


def test_a_step_alone_is_shown_with_its_nodes(store: ObjectStore) -> None:
    begin(store)
    for node, state in ((0, "running"), (1, "failed")):
        status = StepStatus.model_validate(
            {"state": state, "generation": 2, "node": node, "num_nodes": 3, "reason": "no disk"}
        )
        store.put_bytes(status_key(2, node), status.to_bytes())
    told = json.loads(show("--step", STEPS[1], "--json"))
    assert (told["attempts"], told["num_nodes"]) == (2, 3)
    assert [(node["node"], node["state"]) for node in told["nodes"]] == [
        (0, "running"),
        (1, "failed"),
    ]
    assert "node 1: failed" in show("--step", STEPS[1])


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--history"], "which?"),
        (["--step", "nope"], "has no step 'nope'"),
        (["--step", STEPS[2], "--history"], "has not come to step"),
    ],
)
def test_what_can_not_be_told_is_refused(store: ObjectStore, args: list[str], what: str) -> None:
    assert what in show(*args, code=2)


def test_a_damaged_ledger_is_named_with_the_way_out(store: ObjectStore) -> None:
    data = store.get_bytes(entry_key(1))
    store.put_bytes(entry_key(1), data.replace(b"elsewhere", b"elsewhare"))
    told = show("--step", STEPS[1], "--history", code=1)
    assert "ledger/00000001.json is damaged" in told
    assert f"--fresh {STEPS[1]}" in told
