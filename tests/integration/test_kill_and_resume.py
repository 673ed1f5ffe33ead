"""Runs that are killed, stopped, doubled or changed end as undisturbed ones do."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from kinetoscope.core.settings import Workspace
from kinetoscope.data.config import SynthConfig
from kinetoscope.data.synthetic.draw import synthesize
from kinetoscope.runs.find import find_run
from kinetoscope.runs.records import Run
from kinetoscope.runs.view import run_status, step_results

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TRAINING = ["train_spatial_vae", "train_vae_1", "train_vae_2", "train_vae_3", "train_dit_1"]


def _run(kino: Any) -> Run:
    return find_run(Workspace(kino.workspace).store_uri, "last")


def _steps(kino: Any) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in run_status(_run(kino))["steps"]}


def _weights(kino: Any) -> dict[str, str]:
    """Return each training step's digest of weights, optimizer, EMA and position."""
    results = step_results(_run(kino))
    return {name: results[name].artifact("checkpoint").digest for name in TRAINING}


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 900
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _has_started(kino: Any, step: str) -> bool:
    if not list(kino.workspace.glob("objects/runs/*/run.json")):
        return False
    return bool(_steps(kino)[step]["attempts"])


def _wait_for_start(kino: Any, process: Any, step: str) -> None:
    _wait_until(lambda: process.poll() is not None or _has_started(kino, step))


def _kill_tree(process: Any) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    family = [parent, *parent.children(recursive=True)]
    for member in family:
        member.kill()
    process.communicate()
    return family


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_run_killed_again_and_again_ends_bit_for_bit_like_an_undisturbed_one(
    synthetic_videos: Path, tmp_path_factory: pytest.TempPathFactory, kino: Any, num_ranks: int
) -> None:
    args = ["run", "--recipe", "smoke", "--videos", str(synthetic_videos)]
    args += ["--set", f"runtimes.training.num_processes={num_ranks}"]
    undisturbed = type(kino)(tmp_path_factory.mktemp("undisturbed") / "workspace")
    undisturbed(*args)

    chance = random.Random(num_ranks)  # noqa: S311 - no secret
    process = kino.start(*args)
    for step in chance.sample(TRAINING, 3):
        _wait_for_start(kino, process, step)
        time.sleep(chance.uniform(0, 15))
        if process.poll() is None:
            done = {name for name, row in _steps(kino).items() if row["state"] == "done"}
            attempts = {name: _steps(kino)[name]["attempts"] for name in done}
            family = _kill_tree(process)
            assert psutil.wait_procs(family, timeout=15)[1] == []
            process = kino.start("resume", "last")
            _wait_until(lambda: _run(kino).state() == "running")
            again = {name: _steps(kino)[name]["attempts"] for name in done}
            assert again == attempts, "a finished step was run again"
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, out + err
    assert _weights(kino) == _weights(undisturbed)


def test_ctrl_c_leaves_no_process_says_how_to_resume_and_loses_no_step(
    synthetic_videos: Path, kino: Any
) -> None:
    args = ["run", "--recipe", "smoke", "--videos", str(synthetic_videos)]
    process = kino.start(*args, "--set", "train_spatial_vae.loop.num_steps=400")
    _wait_until(lambda: _has_started(kino, "train_spatial_vae"))
    _wait_until(lambda: _steps(kino)["train_spatial_vae"]["progress"]["done"] >= 5)
    parent = psutil.Process(process.pid)
    family = [parent, *parent.children(recursive=True)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75
    assert f"kino resume {_run(kino).record.run_id}" in err
    assert psutil.wait_procs(family, timeout=15)[1] == []
    stopped_at = _steps(kino)["train_spatial_vae"]["progress"]["done"]
    kino("resume", "last")
    result = step_results(_run(kino))["train_spatial_vae"]
    log = Path(result.uri.removeprefix("file://"), "logs", "000002", "rank-0.log").read_text()
    resumed_at = int(log.split("resumed from step ")[1].split()[0])
    assert resumed_at >= stopped_at


def test_two_runs_at_once_in_one_workspace_both_end_well(synthetic_videos: Path, kino: Any) -> None:
    args = ["run", "--recipe", "smoke", "--videos", str(synthetic_videos)]
    first, second = kino.start(*args), kino.start(*args)
    for process in (first, second):
        out, err = process.communicate(timeout=1800)
        assert process.returncode == 0, out + err
    assert [row["state"] for row in kino.json("ls")] == ["succeeded", "succeeded"]
    assert all(step["attempts"] == 1 for step in _steps(kino).values())


def test_one_added_clip_or_one_changed_value_reruns_what_depends_on_it(
    synthetic_videos: Path, tmp_path: Path, kino: Any
) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(synthetic_videos, videos)
    args = ["run", "--recipe", "smoke", "--videos", str(videos)]
    kino(*args)
    kino(
        *args, "--set", "models.sampler.num_steps=5", "--set", "train_dit.0.loop.log_every_steps=5"
    )
    assert _ran(kino) == {"evaluate_dit", "register_model"}
    kino(*args, "--set", "train_dit.0.loop.optimizer.lr=0.002")
    assert _ran(kino) == {"train_dit_1", "evaluate_dit", "register_model"}
    (videos / "broken.mp4").write_bytes(b"no video")
    kino(*args)
    assert _ran(kino) == {"prepare_data"}
    shutil.copy(next(videos.glob("clip-*.mp4")), videos / "again.mp4")
    synthesize(tmp_path / "more", SynthConfig(num_clips=1, seed=99))
    shutil.copy(next((tmp_path / "more").glob("*.mp4")), videos / "new.mp4")
    kino(*args)
    assert _ran(kino) == set(_steps(kino))


def _ran(kino: Any) -> set[str]:
    return {name for name, row in _steps(kino).items() if not row["cached"]}
