"""A node without rank 0 whose supervisor, not a rank, meets a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny.pods import MEETING_WORKER, running
from tiny.small_disk import fill, small_disk
from tiny.steps import place_worker, step_spec

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.contract import RuntimeConfig
from kinetoscope.steps.nodes.report import read_node_end
from kinetoscope.steps.results import step_state
from kinetoscope.storage.open import open_store


def test_it_says_so_and_the_first_node_tells_it_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_worker(tmp_path, monkeypatch, "meeting_worker", MEETING_WORKER)
    nodes = "steps/toy/0/attempts/000001/nodes"
    spec = step_spec(
        "toy",
        "meeting_worker",
        (tmp_path / "objects").as_uri(),
        {"folder": str(tmp_path)},
        reserve_key=f"{nodes}/reserve",
        runtime=RuntimeConfig(num_nodes=2, threads_per_process=1),
    )
    with small_disk(tmp_path / "objects" / nodes) as disk, running(spec, tmp_path) as pods:
        open_store(spec.root_uri).put_bytes(spec.reserve_key, b"x" * 65536)
        fill(disk)
        assert pods[1].wait(60) == ExitCode.DISK_FULL
        told = read_node_end(open_store(spec.uri), 1, 1)
        (tmp_path / "stop").touch()  # as ranks that miss one of another node end
        assert pods[0].wait(60) == ExitCode.DISK_FULL
    assert told is not None
    assert told.code == ExitCode.DISK_FULL
    ended = step_state(spec.uri).ended
    assert ended is not None
    assert ended.reason.startswith("node 1: the disk of ")
