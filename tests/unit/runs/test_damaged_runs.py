"""One damaged, foreign or lost record of a run: the others are not concerned, and a way out is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny.runs import STEPS, make_run, set_running
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.config_model import RECORD_DIGEST, signed_json
from kinetoscope.core.errors import CorruptError, NotFoundError
from kinetoscope.core.settings import workspace
from kinetoscope.runs.find import find_run, list_runs
from kinetoscope.runs.record_types import FreshRequest
from kinetoscope.runs.records import Run
from kinetoscope.runs.removal import remove_run
from kinetoscope.runs.report import finish_start
from kinetoscope.runs.view import run_rows

runner = CliRunner()
RECORDS = ["run.json", "end.json", f"steps/{STEPS[0]}.json", f"steps/{STEPS[1]}.json"]


@pytest.fixture
def runs() -> tuple[Run, Run]:
    """Two runs that share their first step."""
    return make_run("raaaaaaa", created_at=1.0), make_run("rbbbbbbb", created_at=2.0)


def _path(run: Run, key: str) -> Path:
    path = run.store.local_path(key)
    assert path is not None
    return path


def _step_exists(name: str, fingerprint: str) -> bool:
    return (workspace().root / "objects" / "steps" / name / fingerprint / "ledger").exists()


@pytest.mark.parametrize("key", RECORDS)
@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, FreshRequest(name="x").to_bytes()])
def test_the_other_run_is_listed_shown_and_removed(
    runs: tuple[Run, Run], key: str, content: bytes
) -> None:
    damaged, other = runs
    _path(damaged, key).write_bytes(content)
    states = {row["run"]: row["state"] for row in run_rows(workspace().store_uri)}
    assert states == {"raaaaaaa": "damaged", "rbbbbbbb": "failed"}
    listed = runner.invoke(app, ["ls"])
    assert listed.exit_code == 0
    assert key.rpartition("/")[2] in listed.stderr
    assert runner.invoke(app, ["show", "rbbbbbbb"]).exit_code == 0
    remove_run(other, workspace(), print)
    assert _step_exists(STEPS[0], "aa"), "the damaged run may refer to it"
    # Which step a damaged record names is unknown: all of that name stay.
    assert _step_exists(STEPS[1], "rbbbbbbb") == (STEPS[1] in key)
    remove_run(damaged, workspace(), print)
    assert list_runs(workspace().store_uri) == []


@pytest.mark.parametrize("key", ["", "steps", "../../x", "steps/../../x", f"steps/{STEPS[2]}/aa"])
def test_a_record_that_names_another_place_is_refused(runs: tuple[Run, Run], key: str) -> None:
    damaged, _ = runs
    record = damaged.step(STEPS[1])
    assert record is not None
    value = record.model_dump(mode="json") | {"key": key}
    _path(damaged, f"steps/{STEPS[1]}.json").write_bytes(signed_json(value))
    with pytest.raises(CorruptError, match=f"{STEPS[1]}.json"):
        damaged.step(STEPS[1])
    remove_run(damaged, workspace(), print)
    assert _step_exists(STEPS[1], "rbbbbbbb")


def test_a_record_that_lies_in_the_place_of_another_is_refused(runs: tuple[Run, Run]) -> None:
    damaged, other = runs
    shutil.copy(_path(other, "run.json"), _path(damaged, "run.json"))
    with pytest.raises(CorruptError, match="is of run rbbbbbbb"):
        damaged.record  # noqa: B018 - reads it
    shutil.copy(_path(other, f"steps/{STEPS[0]}.json"), _path(other, f"steps/{STEPS[1]}.json"))
    with pytest.raises(CorruptError, match=f"is of step {STEPS[0]}"):
        other.step(STEPS[1])


def test_a_run_that_lost_its_record_is_there_and_protects_its_steps(runs: tuple[Run, Run]) -> None:
    lost, other = runs
    _path(lost, "run.json").unlink()
    assert {row["run"]: row["state"] for row in run_rows(workspace().store_uri)}["raaaaaaa"] == (
        "damaged"
    )
    remove_run(other, workspace(), print)
    assert _step_exists(STEPS[0], "aa")
    remove_run(find_run(workspace().store_uri, "raaaaaaa"), workspace(), print)
    assert not _step_exists(STEPS[0], "aa")


def test_last_is_no_other_run_than_the_last(runs: tuple[Run, Run]) -> None:
    assert find_run(workspace().store_uri, "last").run_id == "rbbbbbbb"
    _path(runs[1], "run.json").write_bytes(b"")
    with pytest.raises(CorruptError, match="which run is the last"):
        find_run(workspace().store_uri, "last")
    with pytest.raises(NotFoundError):
        find_run(workspace().store_uri, "")


def test_what_runs_elsewhere_does_not_run_in_a_copy(
    runs: tuple[Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_running(runs[0])
    assert runs[0].is_running()
    shutil.copytree(workspace().root, tmp_path / "copy")
    monkeypatch.setenv("KINO_WORKSPACE", str(tmp_path / "copy"))
    copied = find_run(workspace().store_uri, "raaaaaaa")
    assert copied.state() == "interrupted"
    remove_run(find_run(workspace().store_uri, "rbbbbbbb"), workspace(), print)


def test_a_start_that_came_to_no_step_is_no_success(runs: tuple[Run, Run]) -> None:
    run, _ = runs
    set_running(run)
    finish_start(run, run.own_start())
    end = run.end()
    assert end is not None
    assert (end.state, end.step) == ("failed", STEPS[0])


def test_a_misspelt_step_asks_for_nothing(runs: tuple[Run, Run]) -> None:
    run, _ = runs
    asked = ["resume", "raaaaaaa", "--fresh", STEPS[0], "--fresh", "nope"]
    assert runner.invoke(app, asked).exit_code == 2
    assert not run.fresh_requested(STEPS[0])


def test_files_beside_the_records_are_no_records(runs: tuple[Run, Run]) -> None:
    run, _ = runs
    set_running(run)
    _path(run, "starts/000001.json~").write_bytes(b"")
    record = run.step(STEPS[0])
    assert record is not None
    attempt = workspace().root / "objects" / record.key / "ledger" / "00000001.json~"
    attempt.write_bytes(b"")
    assert run.num_starts() == 1
    assert {row["state"] for row in run_rows(workspace().store_uri)} == {"running", "failed"}
    assert RECORD_DIGEST in _path(run, "run.json").read_text()
