"""The smoke job as the pods of a TrainJob start it: real processes on gloo, ``PET_*`` variables."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from kinetoscope.config.load import load_config
from kinetoscope.runs.steps import planned_step
from kinetoscope.telemetry.scrape import scrape
from kinetoscope.training.smoke.config import smoke_config

PLATFORM = str(Path(__file__).resolve().parents[2] / "platform")
Process = subprocess.Popen[str]
Start = Callable[..., Process]

JOB = ("-m", "kinetoscope.training.smoke.job")
# The job in a process that notes who takes optimizer steps and who writes checkpoints.
NOTE_CALLERS = """
import json, os, sys
from kinetoscope.training.smoke.job import main

NOTED = ("TorchDDPEngine.step", "write_checkpoint", "PassingCheckpoints.save")
calls = []

def note(frame, *_):
    if frame.f_code.co_qualname in NOTED:
        caller = frame.f_back
        by = f"{caller.f_globals['__name__']}:{caller.f_code.co_qualname}"
        calls.append([frame.f_code.co_qualname, by])

sys.settrace(note)
code = main()
sys.settrace(None)
print(json.dumps(calls), flush=True)
os._exit(code)
"""
# The job with a learning rate that no model survives.
DIVERGE = """
import os
from kinetoscope.training.smoke import config, rank
from kinetoscope.training.smoke.job import main

def diverging():
    given = config.smoke_config()
    optimizer = given.loop.optimizer.model_copy(update={"lr": 1e18})
    loop = given.loop.model_copy(update={"optimizer": optimizer, "grad_clip": None})
    return given.model_copy(update={"loop": loop})

rank.smoke_config = diverging
os._exit(main())
"""
# Many times what it takes on two idle cores.
PATIENCE_SECONDS = 600


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the job's process of one node; what still runs after the test is killed."""
    processes = []
    port = free_port()

    def start(
        node: int,
        *args: str,
        nodes: int = 2,
        per_node: int = 1,
        program: Sequence[str] = JOB,
        **env: str,
    ) -> Process:
        trainer = {
            "PET_NNODES": str(nodes),
            "PET_NPROC_PER_NODE": str(per_node),
            "PET_NODE_RANK": str(node),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
        }
        with (tmp_path / f"stderr-{node}").open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, *program, "--name", "smoke", *args],
                env=os.environ | trainer | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PLATFORM} | env,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def last_line(process: Process) -> dict[str, Any]:
    """Wait for the end; return the report, the last line on stdout."""
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, out
    report: dict[str, Any] = json.loads(out.splitlines()[-1])
    return report


def wait_for_text(path: Path, text: str, process: Process) -> None:
    """Wait until a process has logged something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while text not in path.read_text():
        assert process.poll() is None, path.read_text()
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.1)


def test_it_trains_what_the_recipe_trains() -> None:
    piece = planned_step(load_config("smoke").config, "train_dit_1").piece
    assert smoke_config() == piece


def test_two_nodes_train_and_serve_metrics_while_they_linger(start: Start, tmp_path: Path) -> None:
    port = free_port()
    store = tmp_path / "store"
    args = ("--steps", "4", "--linger", "600")
    first = start(0, *args, KINO_STORE_URI=store.as_uri(), KINO_METRICS_PORT=str(port))
    second = start(1, *args, KINO_STORE_URI=store.as_uri())
    assert first.stdout is not None
    assert second.stdout is not None
    reports = [json.loads(process.stdout.readline()) for process in (first, second)]  # type: ignore[union-attr]
    metrics = scrape(f"http://127.0.0.1:{port}/metrics")
    for process in (first, second):
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
    assert [process.wait(timeout=30) for process in (first, second)] == [0, 0]

    assert [report["rank"] for report in reports] == [0, 1]
    assert reports[0]["weights_digest"] == reports[1]["weights_digest"]
    assert reports[0]["loss"] == reports[1]["loss"]
    assert len(reports[0]["loss"]) == len(reports[0]["seconds_per_step"]) == 4
    assert reports[0]["shm_bytes"] > 0
    assert metrics["kino_train_steps_total"] == 4
    assert metrics['kino_train_loss{kind="total"}'] == pytest.approx(reports[0]["loss"][-1])
    assert metrics["kino_train_samples_total"] == 4 * 2 * 4
    checkpoint = reports[0]["checkpoint"]
    assert reports[1]["checkpoint"] is None
    assert checkpoint["written"]
    assert checkpoint["read"]
    # Weights, two moments and an average of every trained number.
    assert checkpoint["bytes"] > 4 * 4 * 30_000
    assert metrics["kino_checkpoint_bytes"] == checkpoint["bytes"]
    assert [path for path in store.rglob("*") if path.is_file()] == []


def test_its_ranks_are_trained_by_the_trainer_of_a_run(start: Start, tmp_path: Path) -> None:
    store = (tmp_path / "store").as_uri()
    nodes = [start(n, program=("-c", NOTE_CALLERS), KINO_STORE_URI=store) for n in (0, 1)]
    told = [node.communicate(timeout=PATIENCE_SECONDS)[0].splitlines() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0]
    trainer = "kinetoscope.training.loop.trainer:Trainer"
    step = ["TorchDDPEngine.step", f"{trainer}._step"]
    checkpoints = "kinetoscope.training.smoke.proof:PassingCheckpoints"
    saved = [
        ["PassingCheckpoints.save", f"{trainer}._save"],
        ["write_checkpoint", f"{checkpoints}.save"],
    ]
    assert json.loads(told[0][-2])["checkpoint"]["deleted"]
    assert json.loads(told[0][-1]) == [step, step, step, *saved]
    assert json.loads(told[1][-1]) == [step, step, step]


def test_a_loss_that_is_not_finite_is_77_on_all_ranks(start: Start, tmp_path: Path) -> None:
    args, store = ("--steps", "50"), (tmp_path / "store").as_uri()
    nodes = [start(n, *args, program=("-c", DIVERGE), KINO_STORE_URI=store) for n in (0, 1)]
    assert [node.wait(timeout=PATIENCE_SECONDS) for node in nodes] == [77, 77]
    assert "of smoke: loss" in (tmp_path / "stderr-0").read_text()


def test_one_pod_of_two_ranks_equals_one_rank(start: Start) -> None:
    pair = start(0, nodes=1, per_node=2)
    out, _ = pair.communicate(timeout=PATIENCE_SECONDS)
    assert pair.returncode == 0
    reports = [json.loads(line) for line in out.splitlines()]
    assert sorted(report["rank"] for report in reports) == [0, 1]
    assert [report["checkpoint"] for report in reports] == [None, None]  # no store is named
    alone = last_line(start(0, nodes=1))
    assert alone["world_size"] == 1
    assert reports[0]["loss"] == pytest.approx(alone["loss"], rel=1e-5)


def test_a_rank_that_dies_takes_the_other_with_it(start: Start, tmp_path: Path) -> None:
    first, second = (start(node, "--steps", "1000000") for node in (0, 1))
    wait_for_text(tmp_path / "stderr-1", "step 5 of", second)
    second.kill()
    assert first.wait(timeout=60) == 78
    assert "lost a peer" in (tmp_path / "stderr-0").read_text()


def test_a_local_rank_that_dies_ends_its_pod(start: Start, tmp_path: Path) -> None:
    pod = start(0, "--steps", "1000000", nodes=1, per_node=2)
    wait_for_text(tmp_path / "stderr-0", "step 5 of", pod)
    psutil.Process(pod.pid).children()[1].kill()
    assert pod.wait(timeout=60) == 1


def test_sigterm_to_one_rank_stops_all_with_75(start: Start, tmp_path: Path) -> None:
    first, second = (start(node, "--steps", "1000000") for node in (0, 1))
    wait_for_text(tmp_path / "stderr-1", "step 5 of", second)
    second.send_signal(signal.SIGTERM)
    assert [process.wait(timeout=60) for process in (first, second)] == [75, 75]
    assert "told to stop after step" in (tmp_path / "stderr-0").read_text()


def test_a_pod_that_is_told_to_stop_leaves_no_checkpoint(start: Start, tmp_path: Path) -> None:
    store = tmp_path / "store"
    args = ("--steps", "1000000")
    pod = start(0, *args, nodes=1, per_node=2, KINO_STORE_URI=store.as_uri())
    wait_for_text(tmp_path / "stderr-0", "step 5 of", pod)
    pod.send_signal(signal.SIGTERM)
    assert pod.wait(timeout=60) == 75
    assert "of 1000000; nothing is kept" in (tmp_path / "stderr-0").read_text()
    assert [path for path in store.rglob("*") if path.is_file()] == []


def test_sigterm_before_the_ranks_have_met_is_75_at_once(start: Start, tmp_path: Path) -> None:
    alone = start(0)
    wait_for_text(tmp_path / "stderr-0", "metrics at", alone)
    time.sleep(5)
    assert alone.poll() is None
    alone.send_signal(signal.SIGTERM)
    assert alone.wait(timeout=10) == 75


def test_a_rank_that_never_comes_is_a_stall_with_stacks(start: Start, tmp_path: Path) -> None:
    alone = start(0, "--timeout", "20")
    assert alone.wait(timeout=PATIENCE_SECONDS) == 76
    said = (tmp_path / "stderr-0").read_text()
    assert "not done after 20 s" in said
    assert "in meet" in said


def test_an_unknown_master_is_told_by_name(start: Start, tmp_path: Path) -> None:
    alone = start(1, "--timeout", "2", PET_MASTER_ADDR="nobody.invalid")
    assert alone.wait(timeout=PATIENCE_SECONDS) == 1
    assert "'nobody.invalid', did not resolve within 1 s" in (tmp_path / "stderr-1").read_text()


def test_a_wrong_environment_is_the_users_to_change(start: Start, tmp_path: Path) -> None:
    wrong = start(0, PET_NPROC_PER_NODE="auto")
    assert wrong.wait(timeout=PATIENCE_SECONDS) == 2
    assert "spec.trainer.numProcPerNode" in (tmp_path / "stderr-0").read_text()
