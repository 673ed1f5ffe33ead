"""A step of several nodes, each with a supervisor, ranks and a process group of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny.steps import place_worker, step_spec

from kinetoscope.core.errors import (
    DivergedError,
    KinetoscopeError,
    LostPeerError,
    PreemptedError,
    UserError,
)
from kinetoscope.steps.contract import (
    RuntimeConfig,
    StepResult,
    StepSpec,
    attempt_key,
    write_spec,
)
from kinetoscope.steps.execute import execute
from kinetoscope.steps.ledger.entries import Ended
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.nodes.launch import run_supervisors
from kinetoscope.steps.nodes.report import read_node_end
from kinetoscope.steps.results import read_members, read_status, step_state
from kinetoscope.storage.open import open_store

# Ranks that meet and agree as those of a training do, without one.
WORKER = """
import os, signal, time
import torch
from kinetoscope.core.errors import DataError, LostPeerError, PreemptedError
from kinetoscope.core.settings import launch_id
from kinetoscope.steps.worker import Outputs, run_worker
from kinetoscope.training.engine.rendezvous import Meeting
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine

def main(ctx):
    meeting = Meeting(launch_id(), stop=lambda: ctx.stop_requested, waiting=ctx.waiting)
    engine = TorchDDPEngine(ctx.ranks, dtype="fp32", meeting=meeting)
    ctx.join(int(engine.gather_text(str(ctx.generation))[0]))
    print("rank", ctx.rank, "of", ctx.world_size, "in attempt", ctx.generation)
    what, victim = ctx.config["what"], ctx.config.get("victim", 1)
    parts = ctx.config.get("parts", 5)
    for part in range(parts):
        if ctx.rank == victim and part == 2 and ctx.generation <= ctx.config.get("times", 1):
            if what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "bad":
                raise DataError("clip 7 is no video")
            if what == "lost":
                raise LostPeerError("lost a peer")
        time.sleep(0.2)
        if engine.sum_over_ranks(torch.tensor([float(ctx.stop_requested)])) > 0:
            raise PreemptedError("saved")
        ctx.progress(part + 1, parts, "parts", kept=0)
    if ctx.rank:
        time.sleep(ctx.config.get("lingers", 0))
        print("rank", ctx.rank, "goes last")
        return None
    ctx.store.put_bytes("outputs/thing/a.txt", b"x")
    return Outputs(artifacts={"thing": "outputs/thing"})

if __name__ == "__main__":
    run_worker(main)
"""

MakeSpec = Callable[..., StepSpec]


@pytest.fixture
def make_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSpec:
    place_worker(tmp_path, monkeypatch, "node_worker", WORKER)

    def make(run_id: str = "raaaaaaa", *, per_node: int = 1, **config: Any) -> StepSpec:
        return step_spec(
            "toy",
            "node_worker",
            (tmp_path / "objects").as_uri(),
            {"what": "plain"} | config,
            run_id=run_id,
            stop_key=f"runs/{run_id}/stop.json",
            runtime=RuntimeConfig(
                num_nodes=2,
                num_processes=per_node,
                threads_per_process=1,
                max_restarts=config.pop("max_restarts", 1),
                stall_seconds=90,  # a start on a busy machine takes half a minute
            ),
        )

    return make


def ends(spec: StepSpec) -> list[tuple[int, str]]:
    """Return the codes and reasons of the attempts that said how they ended."""
    entries = Ledger(open_store(spec.uri)).entries()
    return [(e.what.code, e.what.reason) for e in entries if isinstance(e.what, Ended)]


def wait_until(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_joined(spec: StepSpec) -> bool:
    status = read_status(spec.uri)
    return status is not None and bool(read_members(spec.uri, status))


def supervisors() -> dict[int, psutil.Process]:
    """Return the supervisors that this process started, by the number of their node."""
    found = {}
    for child in psutil.Process().children():
        if "kinetoscope.steps.supervisor" in child.cmdline():
            found[int(child.environ()["PET_NODE_RANK"])] = child
    return found


class Started:
    """`execute` in a thread, as the component of a run calls it."""

    def __init__(self, spec: StepSpec) -> None:
        self._spec = spec
        self.result: StepResult | None = None
        self.error: KinetoscopeError | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = execute(self._spec)
        except KinetoscopeError as error:
            self.error = error

    def wait(self, seconds: float = 120) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive()


def test_nodes_make_one_result_and_tell_of_themselves(make_spec: MakeSpec) -> None:
    spec = make_spec(per_node=2)
    execute(spec)
    store = open_store(spec.uri)
    keys = {stat.key for stat in store.list(attempt_key(1))}
    assert keys >= {
        "attempts/000001/logs/rank-0.log",
        "attempts/000001/logs/rank-1.log",
        "attempts/000001/nodes/1/logs/rank-2.log",
        "attempts/000001/nodes/1/logs/rank-3.log",
    }
    status = read_status(spec.uri)
    assert status is not None
    assert (status.state, status.num_nodes, status.progress.done) == ("done", 2, 5)
    assert [(node.node, node.state) for node in read_members(spec.uri, status)] == [(1, "done")]
    assert step_state(spec.uri).generation == 1


def test_a_node_that_hears_of_the_result_before_its_ranks_have_ended_tells_all(
    make_spec: MakeSpec,
) -> None:
    spec = make_spec(lingers=6)
    execute(spec)
    status = read_status(spec.uri)
    assert status is not None
    assert [(node.node, node.state) for node in read_members(spec.uri, status)] == [(1, "done")]
    store = open_store(spec.uri)
    assert read_node_end(store, 1, 1) is not None
    assert b"rank 1 goes last" in store.get_bytes(f"{attempt_key(1, 1)}/logs/rank-1.log")


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_the_cause_is_told_by_the_node_that_has_it(make_spec: MakeSpec, victim: int) -> None:
    spec = make_spec(what="killed", victim=victim)
    result = execute(spec)  # the second attempt
    assert result.generation == 2
    ((code, reason),) = ends(spec)
    assert code == 1
    assert reason.startswith("the ranks ended with [-9]" if not victim else "node 1: the ranks")
    other = read_node_end(open_store(spec.uri), 1, 1 - victim)
    assert other is not None
    assert other.code == (1 if victim else 78)


@pytest.mark.slow
def test_wrong_input_that_one_node_finds_ends_the_step_for_good(make_spec: MakeSpec) -> None:
    with pytest.raises(UserError, match="node 1: clip 7 is no video"):
        execute(make_spec(what="bad"))


def test_a_stop_that_reaches_one_node_stops_all(make_spec: MakeSpec) -> None:
    spec = make_spec(parts=200)
    started = Started(spec)
    wait_until(lambda: is_joined(spec))
    supervisors()[1].terminate()
    started.wait()
    assert isinstance(started.error, PreemptedError)
    assert ends(spec) == [(75, "saved")]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_node_that_is_lost_whole_is_made_up_for(make_spec: MakeSpec, victim: int) -> None:
    spec = make_spec(parts=20)
    started = Started(spec)
    wait_until(lambda: is_joined(spec))
    node = supervisors()[victim]
    lost_at = time.monotonic()
    os.killpg(node.pid, signal.SIGKILL)
    wait_until(lambda: step_state(spec.uri).generation == 2, seconds=60)
    assert time.monotonic() - lost_at < 60
    started.wait()
    assert started.result is not None
    assert started.result.generation == 2


def test_two_runs_of_two_nodes_make_a_step_once(make_spec: MakeSpec) -> None:
    spec, twin = make_spec(parts=40), make_spec("rbbbbbbb", parts=40)
    first = Started(spec)
    wait_until(lambda: is_joined(spec))
    result = execute(twin)
    first.wait()
    assert first.result == result
    assert result.generation == 1
    assert step_state(spec.uri).generation == 1


@pytest.mark.slow
def test_attempts_that_lose_a_peer_again_and_again_are_braked(make_spec: MakeSpec) -> None:
    spec = make_spec(what="lost", times=99, max_restarts=0)
    with pytest.raises(DivergedError, match="3 attempts of this start ended without"):
        execute(spec)
    assert [code for code, _ in ends(spec)] == [LostPeerError.exit_code] * 3


@pytest.mark.slow
def test_nodes_that_come_when_all_is_done_have_nothing_to_do(make_spec: MakeSpec) -> None:
    spec = make_spec()
    execute(spec)
    assert run_supervisors(write_spec(spec), spec.runtime) == 0
    assert step_state(spec.uri).generation == 1
