"""Examine the machine that a run would use."""

from __future__ import annotations

import errno
import socket
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from kinetoscope.core.findings import Finding
from kinetoscope.core.machine_limits import existing
from kinetoscope.core.mlflow_variables import mlflow_access
from kinetoscope.core.settings import limit_store_retries
from kinetoscope.core.uris import sqlite_path
from kinetoscope.doctor.machine import (
    check_codecs,
    check_cores,
    check_disk,
    check_gpu,
    check_memory,
    check_shm,
)
from kinetoscope.doctor.step_store import examine_step_store
from kinetoscope.storage.directory import DirectoryStore
from kinetoscope.tracking.database_check import examine_database
from kinetoscope.tracking.server_check import examine_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kinetoscope.core.machine_limits import existing
from kinetoscope.core.settings import Workspace

_PACKAGES = {
    "train": ("torch", "torchvision", "av", "opencv-python-headless", "pyarrow", "safetensors"),
    "pipelines": ("kfp",),
    "": ("mlflow", "minio"),
}
_RETRY_SECONDS = 8
_MAY_NOT_WRITE = (errno.EROFS, errno.EACCES, errno.EPERM)
_READ_ONLY = "read-only for you: what is in it can be looked at, but no run started"
_OLDEST_PYTHON = (3, 11)


def examine(workspace: Workspace) -> list[Finding]:
    """Return what the checks found; leaves nothing behind."""
    checks: list[Callable[[], list[Finding]]] = [
        lambda: [_python()],
        _packages,
        lambda: [check_codecs()],
        lambda: [check_cores()],
        lambda: [check_memory()],
        lambda: [check_shm()],
        lambda: [check_disk(workspace.root)],
        lambda: [check_gpu()],
        lambda: [_workspace(workspace.root)],
        lambda: _remote_store(workspace),
        _registry,
        lambda: [_ports()],
    ]
    # Codecs, GPU and servers are waited for; the order of the findings stays.
    with ThreadPoolExecutor(len(checks)) as pool:
        return [finding for found in pool.map(lambda check: check(), checks) for finding in found]


def _python() -> Finding:
    fit = sys.version_info[:2] >= _OLDEST_PYTHON
    found = ".".join(str(part) for part in sys.version_info[:3])
    hint = "" if fit else "install Python 3.11 or newer, then make setup"
    return Finding("python", "ok" if fit else "bad", "read its version", found, hint)


def _packages() -> list[Finding]:
    return [_package(name, extra) for extra, names in _PACKAGES.items() for name in names]


def _package(name: str, extra: str) -> Finding:
    tried = "read the version of the installed package"
    try:
        return Finding(name, "ok", tried, version(name))
    except PackageNotFoundError:
        what = f"kinetoscope[{extra}]" if extra else "kinetoscope"
        return Finding(name, "bad", tried, "not installed", f"make setup, or pip install '{what}'")


def _workspace(root: Path) -> Finding:
    """Try the two operations that the step contract stands on, where the workspace will be."""
    tried = "wrote, linked, read and deleted a file where the workspace will be"
    hint = "set KINO_WORKSPACE to a folder on a local disk that you may write to"
    try:
        with tempfile.TemporaryDirectory(dir=existing(root), prefix=".kino-doctor-") as folder:
            store = DirectoryStore(existing(root) / folder)
            first = store.put_bytes_if_absent("probe", b"1")
            second = store.put_bytes_if_absent("probe", b"2")
            if not first or second or store.get_bytes("probe") != b"1":
                return Finding("workspace", "bad", tried, f"{root} loses writes", hint)
    except OSError as error:
        found = _READ_ONLY if error.errno in _MAY_NOT_WRITE else str(error)
        return Finding("workspace", "bad", tried, f"{root}: {found}", hint)
    return Finding("workspace", "ok", tried, str(root))


def _remote_store(workspace: Workspace) -> list[Finding]:
    """Use the store that the environment names; the workspace's own folder was tried already."""
    limit_store_retries(_RETRY_SECONDS)
    uri = workspace.store_uri
    return [] if uri == (workspace.root / "objects").as_uri() else examine_step_store(uri)


def _registry() -> list[Finding]:
    access = mlflow_access()
    path = sqlite_path(access.uri)
    if path is not None:
        return [examine_database(path)]
    if access.uri.startswith(("http://", "https://")):
        return examine_server(access)
    scheme = access.uri.partition(":")[0]
    hint = "use sqlite:////absolute/file.db or the http(s) address of an MLflow server"
    tried = "read MLFLOW_TRACKING_URI"
    return [Finding("registry", "poor", tried, f"can't check a {scheme!r} store", hint)]


def _ports() -> Finding:
    tried = "listened on a free port of 127.0.0.1 and connected to it"
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=1).close()
    except OSError as error:
        hint = "ranks talk to each other over 127.0.0.1: look for a firewall or a sandbox"
        return Finding("local ports", "bad", tried, str(error), hint)
    return Finding("local ports", "ok", tried, "127.0.0.1 answers")
