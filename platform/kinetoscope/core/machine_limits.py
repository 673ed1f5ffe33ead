"""Cores, memory, shared memory and disk that this process may use.

Cores and memory are the machine's, less what cgroups take away. Here they are measured; `doctor`
says what a figure means.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# Where the kernel counts the processes that it killed for want of memory.
_KILLS_FILES = ("memory.events", "memory.oom_control")
_SHM = Path("/dev/shm")  # noqa: S108 - where Linux shares memory


class Space(NamedTuple):
    """Space of a file system, in bytes."""

    free: int
    total: int


class Memory(NamedTuple):
    """Memory in bytes; ``limit`` is the cgroup's where that leaves less than the machine has."""

    free: int
    limit: int | None


def usable_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> float:
    """Return the cores of this process: its CPU affinity, or less where a cgroup's quota is less.

    Args:
        cgroups: where the cgroup file systems are mounted.
        membership: the kernel's list of this process's cgroups.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    for folder in _folders(cgroups, membership, "cpu"):
        cores = min(cores, _quota_v2(folder / "cpu.max"), _quota_v1(folder))
    return cores


def memory_limit_bytes(
    cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP
) -> tuple[int, int] | None:
    """Return the smallest memory limit of this process's cgroups and what is used of it, in bytes.

    Args:
        cgroups: where the cgroup file systems are mounted.
        membership: the kernel's list of this process's cgroups.

    Returns:
        ``(limit, used)``, or None without a limit. File cache that the kernel can drop at once
        does not count as used.
    """
    found = []
    for folder in _folders(cgroups, membership, "memory"):
        for limit_name, used_name, cache_name in _MEMORY_FILES:
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None:
                found.append((limit, used - _entry(folder / "memory.stat", cache_name)))
    return min(found, default=None)


def out_of_memory_kills(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return how many processes of this cgroup the kernel has killed for want of memory, so far.

    Where it does not count them, that is 0.

    Args:
        cgroups: where the cgroup file systems are mounted.
        membership: the kernel's list of this process's cgroups.
    """
    for folder in _folders(cgroups, membership, "memory"):
        for name in _KILLS_FILES:
            if (folder / name).is_file():  # the innermost: the others count strangers, too
                return _entry(folder / name, "oom_kill")
    return 0


def free_memory() -> Memory:
    """Return what is free of the machine's memory, or of the cgroup's where that is less."""
    free = psutil.virtual_memory().available
    limited = memory_limit_bytes()
    if limited is None or limited[0] - limited[1] >= free:
        return Memory(free, None)
    return Memory(max(0, limited[0] - limited[1]), limited[0])


def shared_memory(path: Path = _SHM) -> Space | None:
    """Return the shared memory, through which ranks and loaders talk; None where there is none.

    Args:
        path: where it is mounted.
    """
    return disk_space(path) if path.is_dir() else None


def disk_space(path: Path) -> Space:
    """Return the space of the file system of a folder that need not exist yet."""
    usage = shutil.disk_usage(existing(path))
    return Space(usage.free, usage.total)


def existing(path: Path) -> Path:
    """Return the path or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path


def _folders(cgroups: Path, membership: Path, controller: str) -> list[Path]:
    """Return the folders of the process's cgroup and of its ancestors, version 1 or 2."""
    if not membership.is_file():
        return []
    folders: list[Path] = []
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top = cgroups
        elif controller in controllers.split(","):
            top = cgroups / controller
        else:
            continue
        own = top / path.lstrip("/")
        folders += [own, *(parent for parent in own.parents if parent.is_relative_to(top))]
    return folders


def _quota_v2(path: Path) -> float:
    words = _text(path).split()
    if len(words) != 2 or words[0] == "max":  # noqa: PLR2004 - "QUOTA PERIOD" in microseconds
        return float("inf")
    return int(words[0]) / int(words[1])


def _quota_v1(folder: Path) -> float:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    if quota is None or period is None or quota < 0:
        return float("inf")
    return quota / period


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _entry(path: Path, name: str) -> int:
    rows = (line.split() for line in _text(path).splitlines())
    return next((int(row[1]) for row in rows if row[0] == name), 0)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
