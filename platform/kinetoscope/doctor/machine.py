"""What the machine brings: cores, memory, shared memory, disk, GPU, video codecs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from kinetoscope.core.findings import Finding, State
from kinetoscope.core.machine_limits import (
    disk_space,
    free_memory,
    shared_memory,
    usable_cores,
)
from kinetoscope.core.settings import threads_per_process
from kinetoscope.core.units import GIB, format_bytes

_ENOUGH_DISK_BYTES = 10 * GIB
_LEAST_DISK_BYTES = 2 * GIB
_ENOUGH_MEMORY_BYTES = 4 * GIB
_ENOUGH_SHM_BYTES = GIB
_FEW_CORES = 2
_CODEC_SECONDS = 60.0
_GPU_SECONDS = 120.0
_GPU_SIGNS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
_ASK_TORCH = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
names = [torch.cuda.get_device_name(index) for index in range(count)]
for index in range(count):
    torch.ones(8, device=f"cuda:{index}").sum().item()
print(json.dumps({"torch": torch.__version__, "names": names}))
"""


def check_cores() -> Finding:
    """Count the cores that affinity and cgroups leave to us."""
    cores, here = usable_cores(), os.cpu_count() or 1
    found = f"{cores:g} of {here} usable"
    threads = threads_per_process()
    if threads:
        found += f", OMP_NUM_THREADS={threads}"
    tried = "read the CPU affinity, the cgroup's CPU quota and OMP_NUM_THREADS"
    if threads and threads > cores:
        hint = f"unset OMP_NUM_THREADS, or set it to {max(1, int(cores))} or less"
        return Finding("cores", "poor", tried, found, hint)
    if cores < _FEW_CORES:
        return Finding("cores", "poor", tried, found, f"the times told are for {_FEW_CORES} cores")
    return Finding("cores", "ok", tried, found)


def check_memory() -> Finding:
    """Look for the memory that is free, in the machine and in our cgroup."""
    free, limit = free_memory()
    found = f"{format_bytes(free)} available"
    if limit is not None:
        found = f"{format_bytes(free)} left of the cgroup's {format_bytes(limit)}"
    tried = "read the free memory and the cgroup's limit"
    if free < _ENOUGH_MEMORY_BYTES:
        return Finding("memory", "poor", tried, found, "close other programs, or raise the limit")
    return Finding("memory", "ok", tried, found)


def check_shm(path: Path = Path("/dev/shm")) -> Finding:  # noqa: S108 - where Linux shares memory
    """Look at the size of the shared memory, through which ranks and loaders talk.

    Args:
        path: where it is mounted.
    """
    tried = f"read the size of {path}"
    space = shared_memory(path)
    if space is None:
        return Finding("shm", "skipped", tried, f"no {path} on this system")
    found = f"{format_bytes(space.free)} free of {format_bytes(space.total)}"
    if space.free < _ENOUGH_SHM_BYTES:
        hint = "give the container more (--shm-size 2g, or an emptyDir with medium: Memory)"
        return Finding("shm", "poor", tried, found, hint)
    return Finding("shm", "ok", tried, found)


def check_disk(root: Path) -> Finding:
    """Look at the free disk space of a folder that need not exist yet.

    Args:
        root: the workspace.
    """
    free = disk_space(root).free
    state: State = "ok" if free >= _ENOUGH_DISK_BYTES else "poor"
    if free < _LEAST_DISK_BYTES:
        state = "bad"
    hint = "" if state == "ok" else "kino rm old runs, or set KINO_WORKSPACE to another disk"
    found = f"{format_bytes(free)} free at {root}"
    return Finding("disk", state, "read the free space of the workspace's disk", found, hint)


def check_codecs() -> Finding:
    """Encode and decode a few frames with PyAV, in a process of its own."""
    tried = "encoded and decoded 6 frames in memory with PyAV"
    hint = "make setup, or pip install --force-reinstall av (its wheels bring the codecs)"
    try:
        told = _ask_python(["-m", "kinetoscope.data.video.codec_check"], _CODEC_SECONDS)
    except _ProbeError as error:
        return Finding("video codecs", "bad", tried, str(error), hint)
    return judge_codecs(told, tried, hint)


def judge_codecs(told: dict[str, Any], tried: str, hint: str) -> Finding:
    """Turn what ``data.video.codec_check`` told into a finding.

    Args:
        told: its JSON object.
        tried: for the finding.
        hint: for the finding, unless it is ok.
    """
    encoders, missing = told["encoders"], told["missing_decoders"]
    if encoders["libx264"]:
        working = [name for name, error in encoders.items() if not error]
        others = f"works here: {', '.join(working)}" if working else "no other encoder works"
        found = f"H.264 (libx264) can't be written: {encoders['libx264']}; {others}"
        return Finding("video codecs", "bad", tried, found, hint)
    if missing:
        found = f"H.264 works; {', '.join(missing)} can't be read"
        return Finding("video codecs", "poor", tried, found, hint)
    found = "H.264 written and read; HEVC, VP9, AV1, MPEG-4 can be read"
    return Finding("video codecs", "ok", tried, found)


def check_gpu() -> Finding:
    """Ask torch for GPUs, in a process of its own, where the machine shows signs of one."""
    signs = [path for path in _GPU_SIGNS if Path(path).exists()]
    if not signs and shutil.which("nvidia-smi") is None:
        tried = "looked for device files and nvidia-smi"
        return Finding("gpu", "skipped", tried, "none: everything runs on the CPU")
    tried = "asked torch for its GPUs and added numbers on each"
    try:
        told = _ask_python(["-c", _ASK_TORCH], _GPU_SECONDS)
    except _ProbeError as error:
        return Finding("gpu", "bad", tried, str(error), "nvidia-smi tells whether the driver works")
    names = ", ".join(told["names"])
    if not names:
        found = (
            f"{signs[0] if signs else 'nvidia-smi'} is here, but torch {told['torch']} sees none"
        )
        hint = (
            "install a CUDA build of torch that this driver can run; look at CUDA_VISIBLE_DEVICES"
        )
        return Finding("gpu", "poor", tried, found, hint)
    return Finding("gpu", "ok", tried, f"torch {told['torch']}: {names}")


class _ProbeError(Exception):
    """A program that was asked gave no answer."""


def _ask_python(arguments: list[str], seconds: float) -> dict[str, Any]:
    """Run Python and return the JSON object of its last line."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
    except subprocess.TimeoutExpired:
        raise _ProbeError(f"no answer within {seconds:.0f} s") from None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise _ProbeError(f"ended with {done.returncode}: {last}")
    told = json.loads(lines[-1])
    assert isinstance(told, dict)
    return told
