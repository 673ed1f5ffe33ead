"""Limits of cgroups, read from folders as the kernel shows them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kinetoscope.core.machine_limits import (
    memory_limit_bytes,
    out_of_memory_kills,
    usable_cores,
)

if TYPE_CHECKING:
    from pathlib import Path


def _tree(root: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    own = root / "membership"
    own.write_text(membership)
    for name, text in files.items():
        path = root / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "cgroups", own


V2 = "0::/pods/mine\n"
V1 = "9:name=systemd:/\n4:memory:/mine\n2:cpu,cpuacct:/mine\n0::/\n"


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        pytest.param(V2, {"pods/mine/cpu.max": "50000 100000\n"}, id="v2"),
        pytest.param(
            V2, {"pods/mine/cpu.max": "max 100000\n", "pods/cpu.max": "50000 100000"}, id="parent"
        ),
        pytest.param(
            V1,
            {
                "cpu/mine/cpu.cfs_quota_us": "25000\n",
                "cpu/mine/cpu.cfs_period_us": "50000\n",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            id="v1",
        ),
    ],
)
def test_a_quota_of_half_a_core_counts(
    tmp_path: Path, membership: str, files: dict[str, str]
) -> None:
    assert usable_cores(*_tree(tmp_path, membership, files)) == 0.5


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    cgroups, membership = _tree(tmp_path, V2, {"pods/mine/cpu.max": "max 100000\n"})
    assert usable_cores(cgroups, membership) == len(os.sched_getaffinity(0))
    assert usable_cores(cgroups, tmp_path / "absent") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        pytest.param(
            V2,
            {
                "pods/mine/memory.max": "max\n",
                "pods/mine/memory.current": "5\n",
                "pods/memory.max": "1000\n",
                "pods/memory.current": "600\n",
                "pods/memory.stat": "anon 1\ninactive_file 200\n",
            },
            id="v2 of the parent",
        ),
        pytest.param(
            V1,
            {
                "memory/mine/memory.limit_in_bytes": "1000\n",
                "memory/mine/memory.usage_in_bytes": "600\n",
                "memory/mine/memory.stat": "cache 7\ntotal_inactive_file 200\n",
            },
            id="v1",
        ),
    ],
)
def test_file_cache_does_not_count_as_used(
    tmp_path: Path, membership: str, files: dict[str, str]
) -> None:
    assert memory_limit_bytes(*_tree(tmp_path, membership, files)) == (1000, 400)


def test_no_limit_is_none(tmp_path: Path) -> None:
    files = {"pods/mine/memory.max": "max\n", "pods/mine/memory.current": "5\n"}
    assert memory_limit_bytes(*_tree(tmp_path, V2, files)) is None


@pytest.mark.parametrize(
    ("membership", "files", "kills"),
    [
        pytest.param(
            V2,
            {
                "pods/mine/memory.events": "low 0\noom 2\noom_kill 3\noom_group_kill 0\n",
                "pods/memory.events": "oom_kill 9\n",
            },
            3,
            id="v2",
        ),
        pytest.param(
            V1,
            {"memory/mine/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"},
            4,
            id="v1",
        ),
        # In a container, the path is the host's, and the top is the container's own.
        pytest.param(V1, {"memory/memory.oom_control": "oom_kill 5\n"}, 5, id="v1 in a container"),
        pytest.param(V1, {"memory/memory.oom_control": "under_oom 0\n"}, 0, id="an old kernel"),
        pytest.param(V2, {}, 0, id="nothing"),
    ],
)
def test_processes_that_the_kernel_killed_for_memory_are_counted(
    tmp_path: Path, membership: str, files: dict[str, str], kills: int
) -> None:
    assert out_of_memory_kills(*_tree(tmp_path, membership, files)) == kills
