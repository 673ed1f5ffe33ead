"""Several processes that tell one MLflow server of the same run, as pods of a pipeline do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny.ledgers import begin
from tiny.mlflow_server import mlflow_server, silent_server
from tiny.runs import make_finished_run, make_run, new_run, set_running

from kinetoscope.config.load import load_config
from kinetoscope.core.hashing import canonical_json
from kinetoscope.core.settings import workspace
from kinetoscope.runs.mirror import rows
from kinetoscope.runs.mirror.following import mirror_end, mirroring
from kinetoscope.runs.mirror.mlflow_copy import MlflowCopy
from kinetoscope.runs.record_types import End, StepRecord
from kinetoscope.runs.records import Run
from kinetoscope.steps.contract import StepStatus, status_key
from kinetoscope.storage.open import open_store

ROOT = Path(__file__).resolve().parents[2]
TRAINED = "train_dit_1"

# Each process does all rounds; a round begins for all at once.
RACE = """
import sys, time
from pathlib import Path
from kinetoscope.runs.find import find_run
from kinetoscope.core.settings import workspace
from kinetoscope.runs.mirror.following import mirror_end
from kinetoscope.tracking.tracker import Tracker
from kinetoscope.core.settings import tracking_uri

folder, number, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
Tracker(tracking_uri())
for run_id in sys.argv[4:]:
    (folder / f"{run_id}-{number}").touch()
    while len(list(folder.glob(f"{run_id}-*"))) < count:
        time.sleep(0.001)
    run = find_run(workspace().store_uri, run_id)
    mirror_end(run, run.latest_start())
"""


@pytest.fixture(scope="module")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture
def client(server_uri: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_uri)
    return MlflowClient(server_uri, server_uri)


def all_runs(client: Any, *, experiment: str | None = None) -> list[Any]:
    found = client.search_experiments()
    ids = [one.experiment_id for one in found if experiment in (None, one.experiment_id)]
    return list(client.search_runs(ids, max_results=1000))


def of_run(client: Any, run_id: str) -> tuple[Any, dict[str, Any]]:
    """Return the one parent run of a run, and the one nested run of each of its steps."""
    runs = all_runs(client)
    parents = [run for run in runs if run.data.tags.get("kinetoscope.dev/run") == run_id]
    assert len(parents) == 1, parents
    inner = [
        run
        for run in runs
        if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id
        and "kinetoscope.dev/step" in run.data.tags
    ]
    steps = {run.data.tags["kinetoscope.dev/step"]: run for run in inner}
    assert len(steps) == len(inner)
    return parents[0], steps


def write_rows(
    run: Run, first: int, last: int, *, attempt: int = 1, name: str = TRAINED, at: float = 0.0
) -> int:
    """Let an attempt have written rows; return the bytes."""
    record = run.step(name)
    assert record is not None
    lines = [
        json.dumps({"step": s, "time": 1000.0 + s + at, "metrics": {"train.loss": 1 / s, "x": s}})
        for s in range(first, last + 1)
    ]
    data = "".join(f"{line}\n" for line in lines).encode()
    store = open_store(run.step_uri(record))
    store.put_bytes(f"attempts/{attempt:06d}/metrics.jsonl", data)
    return len(data)


def curve(client: Any, tracked: Any, key: str = "train.loss") -> list[int]:
    history = client.get_metric_history(tracked.info.run_id, key)
    return sorted(metric.step for metric in history)


def running_run(run_id: str) -> Run:
    """A run that trains, in its first start."""
    config = load_config("smoke").config
    data = canonical_json(config.to_json()).encode()
    run = new_run(run_id, config_json=data, steps=["prepare_data", TRAINED])
    set_running(run)
    begin_step(run, TRAINED)
    return run


def begin_step(run: Run, name: str) -> None:
    record = StepRecord(name=name, key=f"steps/{name}/{run.run_id}", cached=False, start=1)
    begin(open_store(run.step_uri(record)))
    run.note_step(record)


def sync(run: Run, *, last: bool = False) -> MlflowCopy:
    copy = MlflowCopy(run, run.latest_start())
    copy.sync(last=last)
    return copy


def start_races(folder: Path, run_ids: list[str], count: int) -> list[subprocess.Popen[str]]:
    paths = os.pathsep.join(str(ROOT / name) for name in ("platform", "components"))
    return [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(folder), str(number), str(count), *run_ids],
            env=os.environ | {"PYTHONPATH": paths},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def test_processes_that_open_the_same_run_at_the_same_moment_make_it_once(
    client: Any, tmp_path: Path
) -> None:
    run_ids = [f"rsame{letter}aa" for letter in "abc"]
    for run_id in run_ids:
        run = make_finished_run(run_id)
        write_rows(run, 1, 40)
    processes = start_races(tmp_path, run_ids, 3)
    errors = [process.communicate(timeout=400)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    for run_id in run_ids:
        parent, steps = of_run(client, run_id)
        assert parent.info.status == "FINISHED"
        run = Run(workspace().store_uri, run_id)
        assert set(steps) == set(run.record.steps)
        assert {step.info.status for step in steps.values()} == {"FINISHED"}
        assert curve(client, steps[TRAINED]) == list(range(1, 41))
        figure = f"{TRAINED}.score"
        assert curve(client, steps[TRAINED], figure) == curve(client, parent, figure) == [0]
        assert [a.path for a in client.list_artifacts(parent.info.run_id)] == ["report.html"]


def test_processes_that_are_killed_in_the_middle_leave_what_others_complete(
    client: Any, tmp_path: Path
) -> None:
    run = make_finished_run("rkilleda")
    write_rows(run, 1, 3000)
    for number in range(4):
        (folder := tmp_path / str(number)).mkdir()
        (process,) = start_races(folder, [run.run_id], 1)
        while not list(folder.glob("r*")):
            time.sleep(0.05)
        time.sleep(0.4 * number + 0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    mirror_end(run, run.latest_start())
    parent, steps = of_run(client, run.run_id)
    assert curve(client, steps[TRAINED]) == list(range(1, 3001))
    assert {r.info.status for r in (parent, *steps.values())} == {"FINISHED"}


def test_a_new_process_reads_only_the_rows_that_are_new(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = running_run("rrangesa")
    write_rows(run, 1, 500)
    sync(run)
    offsets: list[int] = []
    read_on = rows.read_on

    def noting(store: Any, found: Any, offset: int) -> Any:
        offsets.append(offset)
        return read_on(store, found, offset)

    monkeypatch.setattr("kinetoscope.runs.mirror.mlflow_copy.read_on", noting)
    before = write_rows(run, 1, 500)
    write_rows(run, 1, 510)
    copy = sync(run)
    copy.sync(last=False)
    assert offsets[0] == before
    assert offsets[1] > before
    assert curve(client, of_run(client, run.run_id)[1][TRAINED]) == list(range(1, 511))


def test_what_a_later_attempt_repeats_is_there_once(client: Any) -> None:
    run = running_run("rrepeata")
    write_rows(run, 1, 20)
    first = sync(run)
    write_rows(run, 11, 30, attempt=2, at=5000.0)
    sync(run)
    first.sync(last=True)
    tracked = of_run(client, run.run_id)[1][TRAINED]
    assert curve(client, tracked) == list(range(1, 31))


def test_rows_that_are_no_rows_hold_nothing_up(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = running_run("rbrokena")
    record = run.step(TRAINED)
    assert record is not None
    row = b'{"step": %d, "time": 1.0, "metrics": {"train.loss": NaN}}\n'
    data = row % 1 + b"\x00\x00\n" + row % 2 + b'{"step": 3, "ti'
    open_store(run.step_uri(record)).put_bytes("attempts/000001/metrics.jsonl", data)
    sync(run)
    assert curve(client, of_run(client, run.run_id)[1][TRAINED]) == [1, 2]
    assert "1 lines are no rows" in caplog.text


def test_a_step_that_is_made_anew_has_a_curve_of_its_own(client: Any) -> None:
    run = running_run("rfreshaa")
    write_rows(run, 1, 20)
    sync(run)
    again = StepRecord(name=TRAINED, key=f"steps/{TRAINED}/anew", cached=False, start=1)
    begin(open_store(run.step_uri(again)))
    run.note_step(again)
    write_rows(run, 1, 10, at=9.0)
    sync(run)
    curves = {
        found.data.tags["kinetoscope.dev/step-key"]: curve(client, found)
        for found in all_runs(client)
        if found.data.tags.get("kinetoscope.dev/step-key", "").endswith(("rfreshaa", "anew"))
    }
    assert curves == {
        f"steps/{TRAINED}/rfreshaa": list(range(1, 21)),
        f"steps/{TRAINED}/anew": list(range(1, 11)),
    }


def test_a_run_whose_end_nobody_notes_ends_as_its_steps_do(client: Any) -> None:
    run = running_run("runtolda")
    record = run.step(TRAINED)
    assert record is not None
    sync(run)
    parent, steps = of_run(client, run.run_id)
    assert (parent.info.status, steps[TRAINED].info.status) == ("RUNNING", "RUNNING")
    status = StepStatus(state="failed", generation=1, code=1, reason="x")
    open_store(run.step_uri(record)).put_bytes(status_key(1), status.to_bytes())
    sync(run, last=True)
    parent, steps = of_run(client, run.run_id)
    assert (parent.info.status, steps[TRAINED].info.status) == ("FAILED", "FAILED")
    sync(run)  # a later attempt of the same start
    parent, steps = of_run(client, run.run_id)
    assert (parent.info.status, steps[TRAINED].info.status) == ("RUNNING", "RUNNING")


def test_a_start_that_was_superseded_tells_nothing(client: Any) -> None:
    run = running_run("rlaterab")
    first = run.latest_start()
    sync(run)
    set_running(run)
    first.finish(End(state="failed"))
    mirror_end(run, first)
    assert of_run(client, run.run_id)[0].info.status == "RUNNING"
    assert not first.is_mirrored()
    run.latest_start().finish(End(state="stopped"))
    mirror_end(run, run.latest_start())
    assert of_run(client, run.run_id)[0].info.status == "KILLED"
    assert run.latest_start().is_mirrored()


def test_a_run_that_was_deleted_in_mlflow_meanwhile_is_made_again(client: Any) -> None:
    run = running_run("rdeleted")
    write_rows(run, 1, 20)
    copy = sync(run)
    parent, steps = of_run(client, run.run_id)
    for found in (parent, *steps.values()):
        client.delete_run(found.info.run_id)
    write_rows(run, 1, 30)
    with pytest.raises(Exception, match=r"active|deleted"):
        copy.sync(last=False)
    copy.sync(last=False)
    assert curve(client, of_run(client, run.run_id)[1][TRAINED]) == list(range(1, 31))


@pytest.mark.parametrize("kind", ["silent", "gone"])
def test_a_server_that_does_not_answer_holds_nobody_up(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run("rsilenta")
    set_running(run)
    with silent_server() as uri:
        address = uri if kind == "silent" else "http://127.0.0.1:9"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        began = time.monotonic()
        with mirroring(run, run.latest_start(), end_seconds=3):
            pass
        assert time.monotonic() - began < 5
    assert "MLflow is behind" in caplog.text
