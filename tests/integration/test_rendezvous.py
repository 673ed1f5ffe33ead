"""Real processes that meet, or find out why they can't."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kinetoscope.steps.rank_environment import RankEnvironment, one_node

PLATFORM = str(Path(__file__).resolve().parents[2] / "platform")
Process = subprocess.Popen[str]
Start = Callable[..., Process]

RANK = """
import json, os, signal, sys, threading
from datetime import timedelta
import torch
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.steps.rank_environment import read_rank_environment
from kinetoscope.training.engine.rendezvous import Meeting
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("up", flush=True)
ranks = read_rank_environment(os.environ)
launch, known = sys.argv[1], json.loads(sys.argv[2])
meeting = Meeting(launch, known, stop.is_set, timedelta(seconds=30))
try:
    engine = TorchDDPEngine(ranks, dtype="fp32", meeting=meeting)
    total = engine.sum_over_ranks(torch.tensor([float(ranks.rank)]))
    print(json.dumps({"total": total.item()}), flush=True)
    sys.stdin.read()  # rank 0's store is there until all are done
except KinetoscopeError as error:
    print(json.dumps({"code": error.exit_code, "error": error.message}), flush=True)
os._exit(0)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a rank of a job; what still runs after the test is killed."""
    processes = []

    def start(node: RankEnvironment, rank: int, launch: str = "", **known: str) -> Process:
        variables = node.variables(rank) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PLATFORM}
        process = subprocess.Popen(
            [sys.executable, "-c", RANK, launch, json.dumps(known)],
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def up(*processes: Process) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"


def told(process: Process) -> dict[str, Any]:
    """Wait for what a process that is up says of its meeting."""
    assert process.stdout is not None
    word: dict[str, Any] = json.loads(process.stdout.readline())
    return word


def test_ranks_that_come_in_any_order_meet(start: Start) -> None:
    node = one_node(3)
    late = [start(node, rank, "4", version="1") for rank in (2, 1)]
    up(*late)
    time.sleep(7)  # longer than any one request
    ranks = [*late, start(node, 0, "4", version="1")]
    up(ranks[-1])
    assert [told(rank) for rank in ranks] == [{"total": 3.0}] * 3


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        ([{"spec": "a"}, {"spec": "a"}, {"spec": "b"}], "rank 2 has spec 'b'; agreed was 'a'"),
        ([{"spec": "a"}, {}, {"spec": "a"}], "rank 1 has spec None; agreed was 'a'"),
    ],
)
def test_a_rank_that_knows_something_else_is_named_on_every_rank(
    start: Start, known: list[dict[str, str]], sentence: str
) -> None:
    node = one_node(3)
    ranks = [start(node, rank, **words) for rank, words in enumerate(known[:2])]
    up(*ranks)
    time.sleep(2)
    ranks.append(start(node, 2, **known[2]))  # a late one is told, too
    up(ranks[2])
    assert [told(rank) for rank in ranks] == [{"code": 1, "error": sentence}] * 3


def test_ranks_of_jobs_of_another_size_are_told(start: Start) -> None:
    two, three = one_node(2), one_node(3)
    address = ("127.0.0.1", two.master_port)
    three = RankEnvironment(3, 0, 3, None, *address)
    ranks = [start(two, 0), start(two, 1), start(three, 2)]
    up(*ranks)
    sentence = "rank 2 has number of ranks '3'; agreed was '2'"
    assert told(ranks[2]) == {"code": 1, "error": sentence}
    assert [told(rank) for rank in ranks[:2]] == [{"total": 1.0}] * 2


def assert_stops_at_once(waiting: Process) -> None:
    waiting.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert told(waiting)["code"] == 75
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("rank", [0, 1])
def test_who_waits_for_others_stops_at_once_when_told_to(start: Start, rank: int) -> None:
    waiting = start(one_node(2), rank)
    up(waiting)
    time.sleep(1)
    assert_stops_at_once(waiting)


def test_who_waits_for_a_machine_that_does_not_answer_stops_at_once(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        waiting = start(RankEnvironment(2, 0, 2, None, *mute.getsockname()), 1)
        up(waiting)
        time.sleep(2)
        assert_stops_at_once(waiting)


def test_a_name_that_does_not_resolve_yet_is_waited_for(start: Start) -> None:
    waiting = start(RankEnvironment(2, 0, 2, None, "nobody.invalid", 29500), 1)
    up(waiting)
    time.sleep(7)
    assert waiting.poll() is None
    waiting.send_signal(signal.SIGTERM)
    assert told(waiting)["code"] == 75


def test_when_rank_0_dies_those_that_wait_with_it_have_lost_a_peer(start: Start) -> None:
    node = one_node(3)
    first, second = start(node, 0), start(node, 1)
    up(first, second)
    time.sleep(3)  # they have met, and wait for the third
    first.kill()
    word = told(second)
    assert word["code"] == 78
    assert "lost rank 0 at 127.0.0.1" in word["error"]


def test_a_rank_of_an_earlier_launch_goes_and_the_others_meet(start: Start) -> None:
    node = one_node(2)
    old, second = start(node, 1, "9"), start(node, 1, "10")
    up(old, second)
    first = start(node, 0, "10")
    up(first)
    word = told(old)
    assert word["code"] == 78
    assert "belongs to launch '9', and rank 0" in word["error"]
    assert [told(rank) for rank in (first, second)] == [{"total": 1.0}] * 2


def test_a_rank_of_a_later_launch_waits_for_its_own_rank_0(start: Start) -> None:
    node = one_node(2)
    old = start(node, 0, "9")
    up(old)
    time.sleep(1)
    new = start(node, 1, "10")
    up(new)
    time.sleep(3)
    assert new.poll() is None
    old.kill()
    old.wait()
    first = start(node, 0, "10")
    up(first)
    assert [told(rank) for rank in (first, new)] == [{"total": 1.0}] * 2


def test_a_port_that_another_process_has_is_told(start: Start) -> None:
    with socket.create_server(("", 0)) as other:
        address = ("127.0.0.1", other.getsockname()[1])
        first = start(RankEnvironment(2, 0, 2, None, *address), 0)
        up(first)
        word = told(first)
    assert word["code"] == 1
    assert f"rank 0 can't be met at port {address[1]}" in word["error"]
