"""Ranks of real process groups that lose another rank, at any moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from kinetoscope.training.engine.lost_peer import is_lost_peer

PLATFORM = str(Path(__file__).resolve().parents[2] / "platform")

# Runs each case in three processes, forked after torch was imported: that takes most of the time.
CASES = """
import json, os, signal, sys, time
from datetime import timedelta
import torch
import torch._dynamo  # or each process imports it with its first DDP
from torch import nn
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.steps.rank_environment import one_node, read_rank_environment
from kinetoscope.training.engine.base import Companion, Objective
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.rendezvous import Meeting
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine

class Regression(Objective):
    def __init__(self):
        super().__init__()
        self.model = nn.Linear(200, 200)
        self._judge = nn.BatchNorm1d(200)

    def companions(self):
        return {"judge": Companion(self._judge)}

    def forward(self, tensors):
        if tensors["x"].isnan().any():
            raise RuntimeError("shapes don't fit")
        return {"loss": self._judge(self.model(tensors["x"])).square().mean(1)}

x = torch.randn(4, 200)

def die(how):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "end":
        os._exit(1)
    if how == "hang":
        time.sleep(10)
        os._exit(1)

def work(engine, what):
    if what == "backward":
        engine.forward_backward({"x": x}, scale=1.0, last=True)
    if what == "step":
        engine.step(1e-3)
    if what == "sum":
        engine.sum_over_ranks(x)
    if what == "text":
        engine.gather_text("word" * 99)
    if what == "barrier":
        engine.barrier()
    if what == "own fault":
        engine.forward_backward({"x": x * float("nan")}, scale=1.0, last=True)

def run(ranks, what, how, victim):
    meeting = Meeting(timeout=timedelta(seconds=3))
    engine = TorchDDPEngine(ranks, dtype="fp32", meeting=meeting)
    if what == "prepare" and ranks.rank == victim:
        die(how)
    engine.prepare(Regression(), OptimizerConfig(lr=1e-3))
    for number in range(50):
        if number == 3 and ranks.rank == victim:
            die(how)
        if number == 3 and ranks.rank == 2:
            time.sleep(0.3)
        work(engine, what)

def told(*case):
    try:
        run(*case)
    except KinetoscopeError as error:
        return {"code": error.exit_code, "error": error.message}
    except Exception as error:
        return {"raised": repr(error)}

for case in json.loads(sys.argv[1]):
    node, pipes, children = one_node(3), [], []
    for rank in range(3):
        pipes.append(os.pipe())
        children.append(os.fork())
        if children[-1] == 0:
            ranks = read_rank_environment(node.variables(rank))
            os.write(pipes[-1][1], json.dumps(told(ranks, *case)).encode())
            os._exit(0)
        os.close(pipes[-1][1])
    for child in children:
        os.waitpid(child, 0)
    words = [os.read(end, 1 << 16) for end, _ in pipes]
    print(json.dumps([json.loads(word) for word in words if word]), flush=True)
"""
LOST = [
    ("prepare", "kill", 1),
    ("backward", "kill", 0),
    ("step", "kill", 1),
    ("sum", "end", 0),
    ("text", "kill", 1),
    ("barrier", "end", 1),
    ("sum", "hang", 1),
]
OWN_FAULT = ("own fault", "none", 9)


@pytest.fixture(scope="module")
def told() -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """What is said, by case, by those of three ranks that are left."""
    cases = [*LOST, OWN_FAULT]
    done = subprocess.run(
        [sys.executable, "-c", CASES, json.dumps(cases)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PLATFORM},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=300,
    )
    return dict(zip(cases, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("case", LOST, ids=str)
def test_those_that_are_left_have_lost_a_peer(told: Any, case: tuple[str, str, int]) -> None:
    assert len(told[case]) == 2
    for word in told[case]:
        assert word.get("code") == 78, word
        assert "lost a peer: another rank has ended, or can't be reached (" in word["error"]
        assert "third_party" not in word["error"]


def test_a_fault_of_our_own_is_none_of_a_peer(told: Any) -> None:
    assert told[OWN_FAULT] == [{"raised": 'RuntimeError("shapes don\'t fit")'}] * 3


# As torch 2.5 and NCCL word them, after their sources.
_GLOO = "[../third_party/gloo/gloo/transport/tcp/"
_NCCL = "NCCL error in: ../NCCLUtils.hpp:317, "


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError(f"{_GLOO}pair.cc:534] Connection closed by peer [10.0.0.3]:42"), True),
        (RuntimeError(f"{_GLOO}unbound_buffer.cc:81] Timed out waiting 1800000ms for recv"), True),
        (RuntimeError(f"Gloo connectFullMesh failed with {_GLOO}pair.cc:144] no error"), True),
        (RuntimeError(f"{_GLOO}pair.cc:446] op.preamble.length <= op.nbytes. 8 vs 4"), False),
        (RuntimeError("Connection reset by peer"), False),
        (dist.DistNetworkError("Connection reset by peer"), True),
        (dist.DistStoreError("Socket Timeout"), True),
        (dist.DistNetworkError("The server socket has failed to listen: EADDRINUSE"), False),
        (dist.DistBackendError(f"{_NCCL}remote process exited or a network error"), True),
        (dist.DistBackendError("Watchdog caught collective operation timeout"), True),
        (dist.DistBackendError("NCCL communicator was aborted on rank 1."), True),
        (dist.DistBackendError(f"{_NCCL}invalid usage\nDuplicate GPU detected : rank 1"), False),
        (dist.DistBackendError(f"{_NCCL}unhandled cuda error: out of memory"), False),
    ],
)
def test_the_words_of_a_lost_peer(error: RuntimeError, lost: bool) -> None:
    assert is_lost_peer(error) == lost
