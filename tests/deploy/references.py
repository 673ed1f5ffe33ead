"""Names that objects use of each other: each must exist among them or be the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pods import PodTemplate

Object = dict[str, Any]
Named = tuple[str, str, str]
"""Kind, namespace and name."""


def dangling_references(
    objects: Sequence[Object],
    pods: Sequence[PodTemplate],
    external: frozenset[str],
    run_namespaces: Sequence[str],
) -> Iterator[str]:
    """One sentence per reference to something that is neither here nor in `external`."""
    known = {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects
    }
    for pod in pods:
        yield from (f"pod of {pod}: {text}" for text in _mounts(pod))
        yield from (f"pod of {pod}: {text}" for text in _ports(pod))
        for namespace in [pod.namespace] if pod.namespace else run_namespaces:
            for kind, name, keys in _used(pod):
                yield from (
                    f"pod of {pod}: {text}"
                    for text in _missing(known, (kind, namespace, name), keys, external)
                )
    yield from _service_ports(objects, pods)
    yield from _bindings(objects, known, external)


def _missing(
    known: Mapping[Named, Object], named: Named, keys: Sequence[str], external: frozenset[str]
) -> Iterator[str]:
    kind, namespace, name = named
    if named not in known:
        if name not in external:
            yield f"needs {kind} {name} in {namespace}, which nobody makes"
        return
    item = known[named]
    content = {**(item.get("data") or {}), **(item.get("stringData") or {})}
    for key in keys:
        if key not in content:
            yield f"needs the key {key} of {kind} {name}, which has {sorted(content)}"


def _used(pod: PodTemplate) -> Iterator[tuple[str, str, list[str]]]:
    """(kind, name, keys) of everything that a pod needs in its namespace."""
    if "serviceAccountName" in pod.spec:
        yield "ServiceAccount", pod.spec["serviceAccountName"], []
    for secret in pod.spec.get("imagePullSecrets") or []:
        yield "Secret", secret["name"], []
    for volume in pod.spec.get("volumes") or []:
        yield from _of_volume(volume)
    for container in pod.containers():
        yield from _of_environment(container)


def _of_environment(container: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    for source in container.get("envFrom") or []:
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if key in source and not source[key].get("optional"):
                yield kind, source[key]["name"], []
    for variable in container.get("env") or []:
        value = variable.get("valueFrom") or {}
        for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if key in value and not value[key].get("optional"):
                yield kind, value[key]["name"], [value[key]["key"]]


def _of_volume(volume: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    if "persistentVolumeClaim" in volume:
        yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], []
    sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
    for source in sources:
        for key, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
            if key in source and not source[key].get("optional"):
                name = source[key].get("secretName") or source[key]["name"]
                yield kind, name, [item["key"] for item in source[key].get("items") or []]


def _mounts(pod: PodTemplate) -> Iterator[str]:
    volumes = [volume["name"] for volume in pod.spec.get("volumes") or []]
    if len(set(volumes)) < len(volumes):
        yield f"a volume twice: {volumes}"
    mounted = set()
    for container in pod.containers():
        paths = [mount["mountPath"] for mount in container.get("volumeMounts") or []]
        if len(set(paths)) < len(paths):
            yield f"container {container['name']} mounts a path twice: {paths}"
        for mount in container.get("volumeMounts") or []:
            mounted.add(mount["name"])
            if mount["name"] not in volumes:
                yield f"container {container['name']} mounts {mount['name']}, not a volume"
    for name in volumes:
        if name not in mounted:
            yield f"volume {name} is mounted nowhere"


def _ports(pod: PodTemplate) -> Iterator[str]:
    for container in pod.containers():
        names = {port.get("name") for port in container.get("ports") or []}
        numbers = {port["containerPort"] for port in container.get("ports") or []}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            handler = container.get(probe) or {}
            for kind in ("httpGet", "tcpSocket"):
                port = (handler.get(kind) or {}).get("port")
                if port is not None and port not in names | numbers:
                    yield f"{probe} of {container['name']} asks port {port}, which is not there"


def _service_ports(objects: Sequence[Object], pods: Sequence[PodTemplate]) -> Iterator[str]:
    for item in objects:
        namespace = item["metadata"].get("namespace")
        where = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Service":
            chosen = item["spec"].get("selector") or {}
            wanted = {port.get("targetPort", port["port"]) for port in item["spec"]["ports"]}
        elif item["kind"] == "PodMonitor":
            chosen = item["spec"]["selector"].get("matchLabels") or {}
            endpoints = item["spec"]["podMetricsEndpoints"]
            wanted = {endpoint["port"] for endpoint in endpoints if "port" in endpoint}
        else:
            continue
        for pod in pods:
            if pod.namespace == namespace and chosen.items() <= pod.labels.items():
                ports = [p for c in pod.containers() for p in c.get("ports") or []]
                have = {p.get("name") for p in ports} | {p["containerPort"] for p in ports}
                for port in sorted(wanted - have, key=str):
                    yield f"{where}: asks port {port} of {pod}, which is not there"


def _bindings(
    objects: Sequence[Object], known: Mapping[Named, Object], external: frozenset[str]
) -> Iterator[str]:
    for binding in (item for item in objects if item["kind"] == "RoleBinding"):
        namespace = binding["metadata"]["namespace"]
        role = binding["roleRef"]
        if (role["kind"], namespace, role["name"]) not in known:
            yield f"RoleBinding {binding['metadata']['name']}: no {role['kind']} {role['name']}"
        for subject in binding["subjects"]:
            place = subject.get("namespace", namespace)
            ours = (subject["kind"], place, subject["name"]) in known
            theirs = subject["kind"] == "ServiceAccount" and subject["name"] in external
            if not ours and not theirs:
                yield f"RoleBinding {binding['metadata']['name']}: no {subject}"
