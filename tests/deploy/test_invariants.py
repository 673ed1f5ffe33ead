"""Each invariant is broken once: what no rule notices would be no invariant."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from chart_values import shipped_by
from invariants import violations
from pod_security import restricted_violations
from rendering import MINIMAL, render

Object = dict[str, Any]
Break = Callable[[Object], object]


def _container(item: Object) -> Object:
    container: Object = item["spec"]["template"]["spec"]["containers"][0]
    return container


def _pod(item: Object) -> Object:
    spec: Object = item["spec"]["template"]["spec"]
    return spec


BREAKAGES: list[tuple[str, Break, str]] = [
    ("Deployment", lambda o: _pod(o)["volumes"].pop(), "not a volume"),
    ("Deployment", lambda o: _pod(o)["volumes"].append({"name": "x", "emptyDir": {}}), "nowhere"),
    ("Deployment", lambda o: _pod(o).update(serviceAccountName="gone"), "ServiceAccount gone"),
    ("Deployment", lambda o: _pod(o).update(imagePullSecrets=[{"name": "gone"}]), "Secret gone"),
    ("Deployment", lambda o: _pod(o).pop("automountServiceAccountToken"), "ServiceAccount token"),
    ("Deployment", lambda o: _container(o).pop("resources"), "lacks requests"),
    ("Deployment", lambda o: _container(o).pop("readinessProbe"), "no readinessProbe"),
    ("Deployment", lambda o: _container(o)["ports"].clear(), "which is not there"),
    ("Deployment", lambda o: _container(o).update(image="ghcr.io/a/b:latest"), "not pinned"),
    ("Deployment", lambda o: _container(o).update(image="ghcr.io/a/b"), "not pinned"),
    ("Deployment", lambda o: _container(o)["securityContext"].clear(), "drop ALL"),
    ("Deployment", lambda o: _container(o)["securityContext"].clear(), "writable root"),
    (
        "Deployment",
        lambda o: _container(o)["env"].append({"name": "AWS_SECRET_ACCESS_KEY", "value": "k"}),
        "written into the spec",
    ),
    (
        "Deployment",
        lambda o: _container(o).update(args=["--password=$(DB_PASSWORD)"]),
        "on the command line",
    ),
    (
        "Deployment",
        lambda o: _container(o).update(args=["postgresql://user:pw@host/db"]),
        "a login inside a URI",
    ),
    ("Deployment", lambda o: o["spec"]["strategy"].update(type="RollingUpdate"), "rolling update"),
    (
        "Deployment",
        lambda o: o["spec"]["selector"]["matchLabels"].update({"helm.sh/chart": "x"}),
        "selects by",
    ),
    ("Deployment", lambda o: o["metadata"]["labels"].clear(), "lacks labels"),
    ("Deployment", lambda o: o["metadata"].update(name="x" * 64), "at most 63"),
    ("Deployment", lambda o: o.update(kind="Namespace"), "do not ship"),
    ("Service", lambda o: o["spec"]["selector"].update(app="other"), "selects no pod"),
    ("Service", lambda o: o["spec"]["selector"].clear(), "selects everything"),
    ("Service", lambda o: o["spec"]["ports"][0].update(targetPort="gone"), "asks port gone"),
    ("ServiceAccount", lambda o: o.pop("automountServiceAccountToken"), "automounts its token"),
    ("Role", lambda o: o["rules"][0].update(verbs=["*"]), "wildcard"),
    ("Role", lambda o: o["rules"][0].update(resources=["secrets"]), "grants ['secrets']"),
    ("RoleBinding", lambda o: o["roleRef"].update(name="gone"), "no Role gone"),
    ("RoleBinding", lambda o: o["subjects"][0].update(name="gone"), "RoleBinding"),
    ("NetworkPolicy", lambda o: o["spec"].pop("policyTypes"), "policyTypes"),
    ("NetworkPolicy", lambda o: o["spec"].update(podSelector={}), "selects everything"),
]


def _ids() -> list[str]:
    return [f"{kind}: {wanted}" for kind, _, wanted in BREAKAGES]


@pytest.mark.parametrize(("kind", "breaks", "wanted"), BREAKAGES, ids=_ids())
def test_a_broken_object_is_noticed(kind: str, breaks: Break, wanted: str) -> None:
    shipped = shipped_by(render(MINIMAL))
    objects = copy.deepcopy(list(shipped.objects))
    breaks(next(item for item in objects if item["kind"] == kind))
    assert wanted in "\n".join(violations(replace(shipped, objects=objects)))


def test_an_object_twice_is_noticed() -> None:
    shipped = shipped_by(render(MINIMAL))
    twice = replace(shipped, objects=[*shipped.objects, shipped.objects[0]])
    assert "is there twice" in "\n".join(violations(twice))


def test_a_policy_without_dns_is_noticed() -> None:
    shipped = shipped_by(render(MINIMAL))
    objects = copy.deepcopy(list(shipped.objects))
    policy = next(item for item in objects if item["kind"] == "NetworkPolicy")
    policy["spec"].update(policyTypes=["Ingress", "Egress"], egress=[{"ports": [{"port": 443}]}])
    assert "without DNS" in "\n".join(violations(replace(shipped, objects=objects)))


def test_a_budget_for_a_single_replica_is_noticed() -> None:
    shipped = shipped_by(render(MINIMAL))
    workload = next(item for item in shipped.objects if item["kind"] == "Deployment")
    budget = {
        "kind": "PodDisruptionBudget",
        "metadata": workload["metadata"],
        "spec": {"minAvailable": 1, "selector": workload["spec"]["selector"]},
    }
    found = violations(replace(shipped, objects=[*shipped.objects, budget]))
    assert "no node can be drained" in "\n".join(found)


SAFE: Object = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
}
UNSAFE: list[tuple[Object, str]] = [
    ({"hostNetwork": True}, "hostNetwork"),
    ({"hostPID": True}, "hostPID"),
    ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "hostPath"),
    ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, "runAsNonRoot"),
    ({"securityContext": {"runAsNonRoot": True}}, "no seccomp"),
    ({"securityContext": SAFE["securityContext"] | {"runAsUser": 0}}, "user 0"),
    ({"securityContext": SAFE["securityContext"] | {"sysctls": [{"name": "kernel.x"}]}}, "sysctl"),
]
UNSAFE_CONTAINERS: list[tuple[Object, str]] = [
    ({"privileged": True}, "privileged"),
    ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
    ({"capabilities": {}}, "drop ALL"),
    ({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, "adds capabilities"),
    ({"runAsNonRoot": False}, "runAsNonRoot"),
    ({"runAsUser": 0}, "user 0"),
    ({"seccompProfile": {"type": "Unconfined"}}, "unconfined"),
    ({"procMount": "Unmasked"}, "procMount"),
    ({"appArmorProfile": {"type": "Unconfined"}}, "AppArmor"),
    ({"seLinuxOptions": {"user": "x"}}, "SELinux"),
]


def test_a_restricted_pod_is_accepted() -> None:
    assert restricted_violations(SAFE) == []


@pytest.mark.parametrize(("change", "wanted"), UNSAFE, ids=[w for _, w in UNSAFE])
def test_an_unsafe_pod_is_refused(change: Object, wanted: str) -> None:
    assert wanted in "\n".join(restricted_violations(SAFE | change))


@pytest.mark.parametrize(
    ("change", "wanted"), UNSAFE_CONTAINERS, ids=[w for _, w in UNSAFE_CONTAINERS]
)
def test_an_unsafe_container_is_refused(change: Object, wanted: str) -> None:
    spec = copy.deepcopy(SAFE)
    spec["containers"][0]["securityContext"] |= change
    assert wanted in "\n".join(restricted_violations(spec))


def test_a_host_port_and_a_host_probe_are_refused() -> None:
    spec = copy.deepcopy(SAFE)
    spec["containers"][0] |= {
        "ports": [{"hostPort": 80}],
        "livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}},
    }
    assert restricted_violations(spec) == [
        "container c: uses a host port",
        "container c: httpGet of a host",
    ]
