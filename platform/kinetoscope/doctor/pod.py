"""What a pod of a run sees: ``python -m kinetoscope.doctor.pod [--only CHECK...]``.

Runs in the control-plane image, as the doctor's pod and as the chart's test, with the environment,
the Secret and the certificates that the pods of runs get. It does not talk to Kubernetes. The last
line is a JSON array of findings; exit code 1 when one of them is bad.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.findings import Finding, any_bad
from kinetoscope.core.machine_limits import disk_space, shared_memory
from kinetoscope.core.mlflow_variables import mlflow_access
from kinetoscope.core.settings import (
    given_store_uri,
    limit_store_retries,
    object_store_host,
    workspace,
)
from kinetoscope.core.units import MIB, format_bytes
from kinetoscope.doctor.step_store import examine_step_store
from kinetoscope.tracking.server_check import examine_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KUBERNETES_HOST = "kubernetes.default.svc"

_RETRY_SECONDS = 8
_LEAST_SHM_BYTES = 64 * MIB
_NO_STORE_HINT = "the ConfigMap of the runs' environment lacks it: set objectStore in the chart"
_NO_MLFLOW_HINT = "the ConfigMap of the runs' environment lacks it: set mlflow in the chart"


def check_dns() -> list[Finding]:
    """Look up the API server, the object store and MLflow."""
    hosts = [KUBERNETES_HOST, object_store_host(), urlsplit(mlflow_access().uri).hostname]
    return [look_up(host) for host in dict.fromkeys(hosts) if host]


def look_up(host: str) -> Finding:
    """Ask the resolver for a name."""
    check, tried = f"dns {host}", f"looked up {host}"
    try:
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None)})
    except OSError as error:
        hint = "is the name right, does the Service exist, are the CoreDNS pods Ready?"
        if host == KUBERNETES_HOST:
            hint = "the cluster's DNS does not answer: look at CoreDNS and at NetworkPolicies"
        return Finding(check, "bad", tried, str(error), hint)
    return Finding(check, "ok", tried, ", ".join(found))


def check_store() -> list[Finding]:
    """Write and read an object where runs will."""
    uri = given_store_uri()
    if uri is None:
        tried = "read KINO_STORE_URI"
        return [Finding("object store", "bad", tried, "no object store is named", _NO_STORE_HINT)]
    return examine_step_store(uri)


def check_mlflow() -> list[Finding]:
    """Write to an experiment and read it back."""
    access = mlflow_access()
    if not access.uri.startswith(("http://", "https://")):
        tried = "read MLFLOW_TRACKING_URI"
        return [Finding("mlflow", "bad", tried, "no MLflow server is named", _NO_MLFLOW_HINT)]
    return examine_server(access)


def check_workspace() -> list[Finding]:
    """Write and read a file in the workspace's volume."""
    root = workspace().root
    tried = f"wrote and read a file in {root}"
    try:
        with tempfile.NamedTemporaryFile("w+", dir=root, prefix=".kino-doctor-") as file:
            file.write("probe")
            file.flush()
            same = Path(file.name).read_text(encoding="utf-8") == "probe"
    except OSError as error:
        hint = "mount a volume there that user 10001 may write to, or change KINO_WORKSPACE"
        return [Finding("workspace", "bad", tried, str(error), hint)]
    if not same:
        return [Finding("workspace", "bad", tried, "other bytes came back", "use another volume")]
    free = format_bytes(disk_space(root).free)
    return [Finding("workspace", "ok", tried, f"{free} free")]


def check_shm() -> list[Finding]:
    """Look at the size of the shared memory."""
    tried, space = "read the size of /dev/shm", shared_memory()
    if space is None:
        return [
            Finding("shm", "bad", tried, "no /dev/shm", "mount an emptyDir with medium: Memory")
        ]
    found = f"{format_bytes(space.total)} in this pod"
    if space.total <= _LEAST_SHM_BYTES:
        hint = "only the container runtime's default: mount an emptyDir with medium: Memory"
        return [Finding("shm", "poor", tried, found, hint)]
    return [Finding("shm", "ok", tried, found)]


CHECKS: dict[str, Callable[[], list[Finding]]] = {
    "dns": check_dns,
    "store": check_store,
    "mlflow": check_mlflow,
    "workspace": check_workspace,
    "shm": check_shm,
}


def examine(names: Iterable[str]) -> list[Finding]:
    """Return the findings of the named checks, in the order of :data:`CHECKS`.

    Args:
        names: keys of :data:`CHECKS`.
    """
    wanted = [name for name in CHECKS if name in set(names)]
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        return [finding for found in pool.map(_guarded, wanted) for finding in found]


def _guarded(name: str) -> list[Finding]:
    try:
        return CHECKS[name]()
    except KinetoscopeError as error:
        return [Finding(name, "bad", f"checked {name}", error.message, error.hint or "")]
    except Exception as error:  # one check that breaks must not hide what the others found
        found = f"{type(error).__name__}: {error}"
        return [Finding(name, "bad", f"checked {name}", found, "please report it: docs/doctor.md")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine, write one line per finding and then the JSON; returns the exit code.

    Args:
        arguments: of the command line; by default this process's.
    """
    parser = argparse.ArgumentParser(description="Examine what a pod of a run sees.")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="CHECK")
    limit_store_retries(_RETRY_SECONDS)
    findings = examine(parser.parse_args(arguments).only)
    lines = [f"{f.state:7} {f.check}: {f.found}" for f in findings]
    lines += [f"hint: {f.check}: {f.hint}" for f in findings if f.hint]
    lines.append(json.dumps([finding._asdict() for finding in findings]))
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if any_bad(findings) else 0


if __name__ == "__main__":
    sys.exit(main())
