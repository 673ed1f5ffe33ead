"""What a pod's log shows of the ranks that its supervisor runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from tiny.pods import end_all, start_pods
from tiny.steps import place_worker, step_spec

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.contract import RuntimeConfig, StepSpec
from kinetoscope.steps.results import read_result
from kinetoscope.storage.open import open_store

WORKER = """
import time
from pathlib import Path
from kinetoscope.steps.worker import Outputs, run_worker

def main(ctx):
    print("rank", ctx.rank, "begins")
    goes_on = Path(ctx.config["goes_on"])
    # A victim that is quick would end the others before they have said anything.
    goes_on.with_name(f"begun-{ctx.rank}").touch()
    while "victim" in ctx.config and len(list(goes_on.parent.glob("begun-*"))) < ctx.world_size:
        time.sleep(0.05)
    for _ in range(400):
        if not goes_on.exists():
            time.sleep(0.05)
    for line in range(ctx.config["lines"]):
        print("rank", ctx.rank, "line", line)
    if ctx.rank == ctx.config.get("victim"):
        raise ValueError("seven")
    if ctx.rank:
        time.sleep(30)
        return None
    if "victim" in ctx.config:
        time.sleep(30)
    ctx.store.put_bytes("outputs/thing/a.txt", b"x")
    return Outputs(artifacts={"thing": "outputs/thing"})

if __name__ == "__main__":
    run_worker(main)
"""

MakeSpec = Callable[..., StepSpec]


@pytest.fixture
def make_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSpec:
    place_worker(tmp_path, monkeypatch, "talking_worker", WORKER)

    def make(num_ranks: int = 1, lines: int = 50, **config: Any) -> StepSpec:
        return step_spec(
            "toy",
            "talking_worker",
            (tmp_path / "objects").as_uri(),
            {"goes_on": str(tmp_path / "goes-on"), "lines": lines} | config,
            runtime=RuntimeConfig(num_processes=num_ranks, threads_per_process=1),
        )

    return make


def stdout_of(pod: subprocess.Popen[bytes]) -> IO[bytes]:
    assert pod.stdout is not None
    return pod.stdout


def log_of(spec: StepSpec, rank: int) -> bytes:
    return open_store(spec.uri).get_bytes(f"attempts/000001/logs/rank-{rank}.log")


def test_a_pods_log_is_that_of_its_first_rank_as_it_is_written(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec()
    pods = start_pods(spec, stdout=subprocess.PIPE)
    try:
        shown = stdout_of(pods[0]).readline()
        assert shown == b"rank 0 begins\n"
        (tmp_path / "goes-on").touch()
        shown += stdout_of(pods[0]).read()
        assert pods[0].wait(30) == ExitCode.DONE
    finally:
        end_all(pods)
    assert shown == log_of(spec, 0)


def test_where_there_is_no_pod_nothing_is_shown_twice(make_spec: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "goes-on").touch()
    pods = start_pods(make_spec(), stdout=subprocess.PIPE, variables={"KINO_POD_UID": ""})
    try:
        assert stdout_of(pods[0]).read() == b""
    finally:
        end_all(pods)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_pods_log_ends_with_the_cause_whichever_rank_it_is(
    make_spec: MakeSpec, tmp_path: Path, victim: int
) -> None:
    (tmp_path / "goes-on").touch()
    spec = make_spec(2, victim=victim)
    # Of one pipe, as Kubernetes keeps them as one log.
    pods = start_pods(spec, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        shown = stdout_of(pods[0]).read()
        assert pods[0].wait(60) == ExitCode.FAILED
    finally:
        end_all(pods)
    assert shown.startswith(log_of(spec, 0))
    lines = shown.decode().removeprefix(log_of(spec, 0).decode()).splitlines()
    assert lines[-1].endswith("node 0 ended with code 1: ValueError: seven")
    marked = [line.removeprefix("[rank 1] ") for line in lines if line.startswith("[rank 1] ")]
    assert marked == (log_of(spec, 1).decode().splitlines()[-30:] if victim else [])
    assert len(lines) == len(marked) + 1


def test_a_log_that_nobody_reads_holds_up_nothing(make_spec: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "goes-on").touch()
    spec = make_spec(lines=200_000)
    pods = start_pods(spec, stdout=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while read_result(spec.uri) is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert pods[0].wait(30) == ExitCode.DONE
    finally:
        end_all(pods)
