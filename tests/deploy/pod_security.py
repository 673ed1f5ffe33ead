"""The restricted profile of Kubernetes' Pod Security Standards, and what we ask for beyond it.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ (1.34)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SECCOMP = ("RuntimeDefault", "Localhost")
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
}


def restricted_violations(spec: Spec) -> list[str]:
    """What in a pod's spec a namespace that enforces `restricted` refuses."""
    found = list(_of_pod(spec))
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            found += [f"container {container['name']}: {text}" for text in _of(container, spec)]
    return found


def hardening_violations(spec: Spec) -> list[str]:
    """What restricted lets pass and we do not: writable roots, user names, tokens."""
    found = []
    if spec.get("automountServiceAccountToken") is not False:
        found.append("mounts a ServiceAccount token")
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        security = _both(container, spec)
        if security.get("readOnlyRootFilesystem") is not True:
            found.append(f"container {container['name']}: writable root filesystem")
        if not isinstance(security.get("runAsUser"), int):
            found.append(f"container {container['name']}: no numeric runAsUser")
    return found


def _of_pod(spec: Spec) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is set"
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= _VOLUMES:
            yield f"volume {volume['name']} is of kind {sorted(kinds - _VOLUMES)}"
    security = spec.get("securityContext") or {}
    for sysctl in security.get("sysctls") or []:
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _of_both(security)


def _of(container: Spec, spec: Spec) -> Iterator[str]:
    own = container.get("securityContext") or {}
    security = _both(container, spec)
    yield from _of_both(own)
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if security.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if (security.get("seccompProfile") or {}).get("type") not in _SECCOMP:
        yield "no seccomp profile"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield "does not drop ALL capabilities"
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"adds capabilities {capabilities['add']}"
    if own.get("procMount", "Default") != "Default":
        yield f"procMount {own['procMount']}"
    yield from _host_access(container)


def _host_access(container: Spec) -> Iterator[str]:
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "uses a host port"
    probes = [container.get(f"{name}Probe") or {} for name in ("liveness", "readiness", "startup")]
    handlers = [*probes, *(container.get("lifecycle") or {}).values()]
    for handler in handlers:
        for kind in ("httpGet", "tcpSocket"):
            if (handler.get(kind) or {}).get("host"):
                yield f"{kind} of a host"


def _of_both(security: Spec) -> Iterator[str]:
    if security.get("runAsUser") == 0:
        yield "runs as user 0"
    if (security.get("windowsOptions") or {}).get("hostProcess"):
        yield "is a Windows host process"
    if (security.get("appArmorProfile") or {}).get("type") == "Unconfined":
        yield "AppArmor unconfined"
    if (security.get("seccompProfile") or {}).get("type") == "Unconfined":
        yield "seccomp unconfined"
    if set(security.get("seLinuxOptions") or {}) & {"user", "role"}:
        yield "sets an SELinux user or role"


def _both(container: Spec, spec: Spec) -> dict[str, Any]:
    """The pod's security context with the container's on top."""
    return {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
