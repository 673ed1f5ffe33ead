"""Real rank processes: of one node, and of two that form one group."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from kinetoscope.core.errors import ExitCode
from kinetoscope.core.machine_limits import usable_cores
from kinetoscope.steps.rank_environment import RankEnvironment, one_node
from kinetoscope.steps.ranks import Ranks, worst_code
from kinetoscope.steps.watch import watch

PLATFORM = str(Path(__file__).resolve().parents[3] / "platform")
NEVER = float("inf")

# Ranks that share a pipe write whole lines at once: print would write a line and its end apart.
TELL_VARIABLES = """
import json, os, sys
sys.stdout.write(json.dumps({**os.environ, "arguments": sys.argv[1:]}) + "\\n")
"""
ADD_RANKS = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(total)
print("rank", dist.get_rank(), "of", dist.get_world_size(), "adds", total.item())
dist.destroy_process_group()
"""
OUTLIVE = """
import sys, time
from kinetoscope.steps.lifeline import exit_with_starter
exit_with_starter()
sys.stdout.write("up\\n")
sys.stdout.flush()
time.sleep(600)
"""
START_AND_SLEEP = """
import time
from kinetoscope.steps.rank_environment import one_node
from kinetoscope.steps.ranks import Ranks
ranks = Ranks(["outlive"], one_node(2))
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules for ranks to run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), PLATFORM]))
    for name, text in {
        "tell_variables": TELL_VARIABLES,
        "add_ranks": ADD_RANKS,
        "outlive": OUTLIVE,
        "start_and_sleep": START_AND_SLEEP,
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait(ranks: Ranks) -> ExitCode:
    return watch(ranks, should_stop=lambda: False, grace_seconds=NEVER)


def told(log: Path) -> dict[str, object]:
    variables: dict[str, object] = json.loads(log.read_text())
    return variables


def test_ranks_of_a_second_node_are_told_their_place_in_the_job(folder: Path) -> None:
    node = RankEnvironment(6, 2, 2, None, "node-0", 29500)
    with closing(Ranks(["tell_variables", "--x"], node, logs=folder / "logs")) as ranks:
        assert wait(ranks) == ExitCode.DONE
    assert sorted(path.name for path in folder.glob("logs/*")) == ["rank-2.log", "rank-3.log"]
    second = told(folder / "logs" / "rank-3.log")
    assert second.items() >= node.variables(1).items()
    assert second["arguments"] == ["--x"]


def test_two_nodes_form_one_group(folder: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                closing(
                    Ranks(
                        ["add_ranks"],
                        RankEnvironment(2, first_rank, 1, None, "127.0.0.1", port),
                        logs=folder / "logs",
                        threads=1,
                    )
                )
            )
            for first_rank in (0, 1)
        ]
        assert [wait(ranks) for ranks in nodes] == [ExitCode.DONE, ExitCode.DONE]
    said = [(folder / "logs" / f"rank-{rank}.log").read_text() for rank in (0, 1)]
    assert "rank 0 of 2 adds 3.0" in said[0]
    assert "rank 1 of 2 adds 3.0" in said[1]


def test_a_rank_is_not_told_what_was_told_to_its_starter_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PET_NPROC_PER_NODE", "2")
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    variables = {"KINO_SPEC_URI": "file:///spec"}
    with closing(
        Ranks(["tell_variables"], one_node(1), variables=variables, logs=folder / "logs")
    ) as ranks:
        assert wait(ranks) == ExitCode.DONE
    found = told(folder / "logs" / "rank-0.log")
    assert found["KINO_SPEC_URI"] == "file:///spec"
    assert not [name for name in found if name.startswith(("PET_", "_KFP_RUNTIME"))]


@pytest.mark.parametrize(("num_ranks", "threads"), [(1, 0), (3, 0), (1, 3)])
def test_threads_are_as_told_or_the_usable_cores_shared(
    folder: Path, num_ranks: int, threads: int
) -> None:
    node, logs = one_node(num_ranks), folder / "logs"
    with closing(Ranks(["tell_variables"], node, logs=logs, threads=threads)) as ranks:
        assert wait(ranks) == ExitCode.DONE
    expected = threads or max(1, int(usable_cores()) // num_ranks)
    assert told(logs / "rank-0.log")["OMP_NUM_THREADS"] == str(expected)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system knows no affinity")
def test_cores_that_were_taken_away_get_no_threads(folder: Path) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with closing(Ranks(["tell_variables"], one_node(1), logs=folder / "logs")) as ranks:
            assert wait(ranks) == ExitCode.DONE
    finally:
        os.sched_setaffinity(0, cores)
    assert told(folder / "logs" / "rank-0.log")["OMP_NUM_THREADS"] == "1"


def test_without_a_log_folder_ranks_write_where_their_starter_does(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(Ranks(["tell_variables"], one_node(2))) as ranks:
        assert wait(ranks) == ExitCode.DONE
    said = [json.loads(line)["RANK"] for line in capfd.readouterr().out.splitlines()]
    assert sorted(said) == ["0", "1"]


def test_ranks_end_when_their_starter_is_killed(folder: Path) -> None:
    starter = psutil.Popen([sys.executable, "-m", "start_and_sleep"], stdout=-1, cwd=folder)
    try:
        assert [starter.stdout.readline() for _ in range(2)] == [b"up\n", b"up\n"]
        children = starter.children()
        assert len(children) == 2
    finally:
        starter.kill()
        starter.communicate()
    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_one_rank_has_a_number_and_a_starter_of_ranks_has_none() -> None:
    assert RankEnvironment(6, 2, 2, 1, "node-0", 29500).rank == 3
    with pytest.raises(ValueError, match="is no rank"):
        _ = RankEnvironment(6, 2, 2, None, "node-0", 29500).rank


@pytest.mark.parametrize(
    ("codes", "told", "expected"),
    [
        ([0, 0], False, ExitCode.DONE),
        ([0, -9], False, ExitCode.FAILED),
        ([75, 2], True, ExitCode.USER_ERROR),
        ([-15, 0], False, ExitCode.FAILED),
        ([1, 77], False, ExitCode.DIVERGED),
        ([0, 78], False, ExitCode.LOST_PEER),
        ([78, 1], False, ExitCode.FAILED),
        ([78, 76], True, ExitCode.STALLED),
        ([78, -9], False, ExitCode.FAILED),
        ([78, 75], True, ExitCode.PREEMPTED),
        ([78, 75], False, ExitCode.LOST_PEER),
        ([75, 79, 78], True, ExitCode.WITHDRAWN),
        ([75, 79, 78], False, ExitCode.WITHDRAWN),
        ([79, 1], True, ExitCode.FAILED),
        ([99], False, ExitCode.FAILED),
    ],
)
def test_the_worst_code_counts(codes: list[int], told: bool, expected: ExitCode) -> None:
    assert worst_code(codes, told_to_stop=told) == expected
