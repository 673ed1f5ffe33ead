"""A run that has finished is shown by `kino resume`; one of which something is missing goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny.runs import make_finished_run, make_run, set_running
from tiny.snapshots import snapshot
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.errors import CorruptError
from kinetoscope.core.settings import workspace
from kinetoscope.runs.finished import is_finished
from kinetoscope.runs.record_types import End
from kinetoscope.runs.records import Run

runner = CliRunner()


@pytest.fixture
def run() -> Run:
    run = make_finished_run("raaaaaaa")
    (workspace().root / "mlflow.db").touch()
    return run


def _step(path: str) -> Path:
    return workspace().root / "objects/steps/train_dit_1/raaaaaaa" / path


def test_a_finished_run_is_shown_and_nothing_is_started(run: Run) -> None:
    before = snapshot(workspace().root)
    result = runner.invoke(app, ["resume", "last"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("run raaaaaaa has finished: nothing is left to do\n")
    assert "model   toy/1" in result.stdout
    told = json.loads(runner.invoke(app, ["resume", "last", "--json"]).stdout)
    assert (told["run"], told["state"]) == ("raaaaaaa", "succeeded")
    assert snapshot(workspace().root) == before


@pytest.mark.parametrize(
    "undo",
    [
        pytest.param(
            lambda run: run.latest_start().finish(End(state="failed")), id="it failed later"
        ),
        pytest.param(lambda run: run.store.delete("starts/000001/end.json"), id="no end"),
        pytest.param(
            lambda run: run.store.put_bytes("starts/000001/end.json", b"{"), id="damaged end"
        ),
        pytest.param(lambda run: run.request_fresh("train_dit_1"), id="a step asked for anew"),
        pytest.param(lambda run: run.store.delete("steps/train_dit_1.json"), id="no step"),
        pytest.param(lambda _: _step("result.json").unlink(), id="no result"),
        pytest.param(lambda _: _step("result.json").write_bytes(b"{}"), id="damaged result"),
        pytest.param(lambda run: run.store.delete("starts/000001/report.html"), id="no report"),
        pytest.param(
            lambda run: run.store.delete("starts/000001/mirrored.json"), id="not all in MLflow"
        ),
        pytest.param(lambda _: (workspace().root / "mlflow.db").unlink(), id="MLflow is lost"),
    ],
)
def test_a_run_of_which_something_is_missing_is_not_finished(
    run: Run, undo: Callable[[Run], object]
) -> None:
    assert is_finished(run)
    undo(run)
    assert not is_finished(run)


@pytest.mark.parametrize("content", [None, b"ma"], ids=["gone", "cut"])
def test_what_a_step_made_and_is_damaged_is_told_with_the_way_to_make_it_again(
    run: Run, content: bytes | None
) -> None:
    path = _step("outputs/train_dit_1.bin")
    path.unlink()
    if content:
        path.write_bytes(content)
    with pytest.raises(CorruptError, match=f"{path}, which step train_dit_1 made"):
        is_finished(run)
    result = runner.invoke(app, ["resume"])
    assert result.exit_code == 1
    assert "hint: kino resume raaaaaaa --fresh train_dit_1 makes the step again" in result.stderr


def test_an_unknown_step_is_told_of_a_finished_run_too(run: Run) -> None:
    before = snapshot(workspace().root)
    result = runner.invoke(app, ["resume", "last", "--fresh", "train_audio"])
    assert result.exit_code == 2
    assert "run raaaaaaa has no step 'train_audio'" in result.stderr
    assert snapshot(workspace().root) == before


def test_a_start_forgets_that_mlflow_had_all(run: Run) -> None:
    assert run.latest_start().is_mirrored()
    assert not set_running(run).is_mirrored()


def test_a_failed_run_is_not_finished() -> None:
    assert not is_finished(make_run("raaaaaaa"))
