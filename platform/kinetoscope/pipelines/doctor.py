"""Examine the machine that a run would use."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal, NamedTuple

import psutil

from kinetoscope.core.units import GIB, format_bytes
from kinetoscope.storage.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kinetoscope.core.settings import Workspace

_PACKAGES = {
    "train": ("torch", "torchvision", "av", "opencv-python-headless", "pyarrow", "safetensors"),
    "pipelines": ("kfp",),
}
_OLDEST_PYTHON = (3, 11)
_ENOUGH_DISK_BYTES = 10 * GIB
_LEAST_DISK_BYTES = 2 * GIB
_ENOUGH_MEMORY_BYTES = 4 * GIB
_FEW_CORES = 2


class Finding(NamedTuple):
    """One check: ``bad`` stops a run, ``poor`` makes it slow or short of something."""

    check: str
    state: Literal["ok", "poor", "bad"]
    found: str
    hint: str = ""


def examine(workspace: Workspace) -> list[Finding]:
    """Return what the checks found; leaves nothing behind."""
    return [
        _python(),
        *_packages(),
        _cores(),
        _memory(),
        _disk(workspace.root),
        _store(workspace.root),
        _ports(),
    ]


def _python() -> Finding:
    fit = sys.version_info[:2] >= _OLDEST_PYTHON
    found = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", "ok" if fit else "bad", found, "Python 3.11 or newer is needed")


def _packages() -> Iterator[Finding]:
    for extra, names in _PACKAGES.items():
        for name in names:
            try:
                yield Finding(name, "ok", version(name))
            except PackageNotFoundError:
                hint = f"make setup, or pip install 'kinetoscope[{extra}]'"
                yield Finding(name, "bad", "not installed", hint)


def _cores() -> Finding:
    cores = os.cpu_count() or 1
    state: Literal["ok", "poor"] = "ok" if cores >= _FEW_CORES else "poor"
    return Finding("cores", state, str(cores), f"the demo's times are for {_FEW_CORES} cores")


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    state: Literal["ok", "poor"] = "ok" if free >= _ENOUGH_MEMORY_BYTES else "poor"
    return Finding("memory", state, f"{format_bytes(free)} available", "close other programs")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(_existing(root)).free
    state: Literal["ok", "poor", "bad"] = "ok" if free >= _ENOUGH_DISK_BYTES else "poor"
    if free < _LEAST_DISK_BYTES:
        state = "bad"
    hint = "kino rm old runs, or set KINO_WORKSPACE to another disk"
    return Finding("disk", state, f"{format_bytes(free)} free at {root}", hint)


def _store(root: Path) -> Finding:
    """Try the two operations that the step contract stands on, where the workspace will be."""
    hint = "set KINO_WORKSPACE to a folder on a local disk that you may write to"
    try:
        with tempfile.TemporaryDirectory(dir=_existing(root), prefix=".kino-doctor-") as folder:
            store = DirectoryStore(_existing(root) / folder)
            first = store.put_bytes_if_absent("probe", b"1")
            second = store.put_bytes_if_absent("probe", b"2")
            if not first or second or store.get_bytes("probe") != b"1":
                return Finding("workspace", "bad", f"{root} loses writes", hint)
    except OSError as error:
        return Finding("workspace", "bad", f"{root}: {error}", hint)
    return Finding("workspace", "ok", str(root))


def _ports() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=1).close()
    except OSError as error:
        hint = "ranks talk to each other over 127.0.0.1; something forbids it"
        return Finding("local ports", "bad", str(error), hint)
    return Finding("local ports", "ok", "127.0.0.1 answers")


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
