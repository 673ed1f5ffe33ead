"""Verbs that read and delete runs, on records as runs leave them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny.runs import make_finished_run, make_run, set_running
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.settings import workspace
from kinetoscope.steps.contract import RESULT_KEY, status_key
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.steps.scratch import make_scratch
from kinetoscope.storage.open import open_store

runner = CliRunner()


def test_ls_lists_the_newest_first() -> None:
    make_run("raaaaaaa", created_at=1.0)
    make_run("rbbbbbbb", created_at=2.0)
    rows = json.loads(runner.invoke(app, ["ls", "--json"]).stdout)
    assert [row["run"] for row in rows] == ["rbbbbbbb", "raaaaaaa"]
    assert rows[0]["state"] == "failed"
    assert (rows[0]["steps_done"], rows[0]["num_steps"]) == (1, 3)
    assert "rbbbbbbb  smoke  failed  1/3" in runner.invoke(app, ["ls"]).stdout


@pytest.mark.parametrize("name", ["raaaaaaa", "raa", "last"])
def test_show_finds_a_run_by_id_prefix_and_last(name: str) -> None:
    make_run("raaaaaaa")
    told = json.loads(runner.invoke(app, ["show", name, "--json"]).stdout)
    assert told["run"] == "raaaaaaa"
    assert told["state"] == "failed"
    wanted = {"steps", "model", "sample", "report", "clips", "quarantine", "scores"}
    assert wanted <= told.keys()
    done, failed, pending = told["steps"]
    assert (done["name"], done["state"], done["cached"]) == ("prepare_data", "done", True)
    assert (failed["state"], failed["attempts"], failed["seconds"]) == ("failed", 1, 3.0)
    assert pending["state"] == "pending"
    assert told["model"] is None
    assert [(row["path"], row["reason"]) for row in told["quarantine"]] == [("a.mp4", "truncated")]


def test_an_ambiguous_prefix_is_refused_with_the_candidates() -> None:
    make_run("raaaaaaa")
    make_run("raabbbbb")
    result = runner.invoke(app, ["show", "raa"])
    assert result.exit_code == 2
    assert "2 runs match 'raa'" in result.stderr
    assert "raaaaaaa" in result.stderr
    assert "raabbbbb" in result.stderr


def test_show_tells_people_why_a_run_failed() -> None:
    make_run("raaaaaaa")
    text = runner.invoke(app, ["show"]).stdout
    assert "run raaaaaaa (smoke): failed" in text
    assert "loss is nan" in text
    assert "a.mp4: truncated" in text


def test_status_of_a_killed_run_is_interrupted() -> None:
    run = make_run("raaaaaaa")
    set_running(run)
    assert json.loads(runner.invoke(app, ["status", "--json"]).stdout)["state"] == "running"
    start = run.latest_start().record
    assert start is not None
    another = start.process.model_copy(update={"started_at": 1.0})
    run.begin(start.model_copy(update={"process": another}), after=1)
    told = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert told["state"] == "interrupted"
    assert told["metrics"] == {}


def test_logs_of_a_step_and_of_an_unknown_one() -> None:
    make_run("raaaaaaa")
    result = runner.invoke(app, ["logs", "last", "train_spatial_vae"])
    assert "step 7: loss nan" in result.stdout
    root = open_store(workspace().store_uri)
    root.put_bytes("steps/train_spatial_vae/raaaaaaa/logs/000001/rank-0.log", b"step 3: before\n")
    result = runner.invoke(app, ["logs", "last", "train_spatial_vae"])
    assert "step 3: before" in result.stdout  # of an earlier version
    unknown = runner.invoke(app, ["logs", "last", "train_audio"])
    assert unknown.exit_code == 2
    assert "its steps are prepare_data" in unknown.stderr


def test_data_report_tells_what_was_dropped() -> None:
    make_run("raaaaaaa")
    told = json.loads(runner.invoke(app, ["data", "report", "last", "--json"]).stdout)
    assert (told["num_videos"], told["num_train"], told["num_heldout"]) == (11, 8, 2)
    assert told["dropped"] == {"too_short": 1}
    assert Path(told["report"]).read_text() == "<html>"


def test_data_report_tells_how_clips_fall_into_the_buckets() -> None:
    make_finished_run("raaaaaaa")
    told = json.loads(runner.invoke(app, ["data", "report", "--json"]).stdout)
    (row,) = told["buckets"]["train_dit_1"]["rows"]
    assert (row["num_clips"], told["buckets"]["train_dit_1"]["left_out"]) == (6, {"too short": 2})
    text = runner.invoke(app, ["data", "report"]).stdout
    assert "train_dit_1: 1 buckets take 6 of 8 clips to train on\n" in text
    assert "  32x32 x 9  32x32   6      75.0%  4\n  none, too short: 2\n" in text


def test_resume_refuses_a_run_that_runs() -> None:
    set_running(make_run("raaaaaaa"))
    result = runner.invoke(app, ["resume", "last"])
    assert result.exit_code == 2
    assert "is still running" in result.stderr


def test_stop_of_a_run_that_does_not_run_says_so() -> None:
    run = make_run("raaaaaaa")
    result = runner.invoke(app, ["stop", "last"])
    assert result.exit_code == 0
    assert "does not run: failed" in result.stdout
    assert not run.latest_start().stop_requested()


def test_stop_asks_a_running_run_and_gives_up_after_the_timeout() -> None:
    run = make_run("raaaaaaa")
    set_running(run)
    result = runner.invoke(app, ["stop", "last", "--timeout", "0"])
    assert result.exit_code == 1
    assert "did not stop within 0 s" in result.stderr
    assert run.latest_start().stop_requested()


def test_rm_deletes_a_run_and_what_no_other_run_uses() -> None:
    make_run("raaaaaaa", prepared="shared")
    make_run("rbbbbbbb", prepared="shared")
    result = runner.invoke(app, ["rm", "raaaaaaa", "--yes"])
    assert result.exit_code == 0, result.stderr
    keys = [stat.key for stat in open_store(workspace().store_uri).list()]
    assert not any("raaaaaaa" in key for key in keys)
    assert f"steps/prepare_data/shared/{RESULT_KEY}" in keys
    assert f"steps/train_spatial_vae/rbbbbbbb/{status_key(1)}" in keys
    runner.invoke(app, ["rm", "rbbbbbbb", "--yes"])
    assert open_store(workspace().store_uri).list() == []


def test_rm_asks_first() -> None:
    make_run("raaaaaaa")
    result = runner.invoke(app, ["rm", "raaaaaaa"], input="n\n")
    assert result.exit_code == 130
    assert open_store(workspace().store_uri).list("runs/raaaaaaa") != []


def test_rm_without_a_terminal_says_what_it_needs() -> None:
    make_run("raaaaaaa")
    result = runner.invoke(app, ["rm", "raaaaaaa"], input="")
    assert result.exit_code == 2
    assert "stdin is no terminal" in result.stderr
    assert "hint: kino rm raaaaaaa --yes" in result.stderr
    assert open_store(workspace().store_uri).list("runs/raaaaaaa") != []


def test_rm_refuses_while_any_run_runs() -> None:
    make_run("raaaaaaa")
    set_running(make_run("rbbbbbbb"))
    result = runner.invoke(app, ["rm", "raaaaaaa", "--yes"])
    assert result.exit_code == 2
    assert "run rbbbbbbb is still running and may use" in result.stderr


def test_rm_deletes_what_a_killed_process_left_in_scratch() -> None:
    make_run("raaaaaaa")
    left, used = (make_scratch(workspace().scratch_path, name) for name in ("left", "used"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    owner = ProcessIdentity.of(ended.pid)
    ended.wait()
    (left / "owner.json").write_bytes(owner.to_bytes())
    assert runner.invoke(app, ["rm", "raaaaaaa", "--yes"]).exit_code == 0
    assert (left.exists(), used.exists()) == (False, True)
