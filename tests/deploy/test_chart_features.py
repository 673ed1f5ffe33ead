"""What each setting switches on, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from chart_values import merged
from pods import pods_of
from rendering import (
    ALL_APIS,
    MINIMAL,
    POD_MONITOR_API,
    PROMETHEUS_RULE_API,
    ChartRefusedError,
    ci_values,
    render,
)
from values_schema import nest, values

CLUSTER_RUNTIME_API = "trainer.kubeflow.org/v1alpha1/ClusterTrainingRuntime"
# Setting, the API that it needs, the kind that it gives.
NEEDS_AN_API = {
    "clusterTrainingRuntime": (CLUSTER_RUNTIME_API, "ClusterTrainingRuntime"),
    "monitoring.podMonitor": (POD_MONITOR_API, "PodMonitor"),
    "monitoring.prometheusRule": (PROMETHEUS_RULE_API, "PrometheusRule"),
}
WITHOUT = [pytest.param(name, api, kind, id=name) for name, (api, kind) in NEEDS_AN_API.items()]
STORE = {"objectStore": {"endpoint": "", "devStore": {"enabled": True}}}
TWO_SERVERS = {
    "mlflow": {
        "replicas": 2,
        "database": {"kind": "postgresql", "existingSecret": "mlflow-database"},
        "artifacts": {"kind": "objectStore"},
    }
}
# Setting that is on, kinds and names that come with it.
SWITCHES: list[tuple[str, Mapping[str, Any], Mapping[str, Any], set[tuple[str, str]]]] = [
    (
        "mlflow",
        {},
        {"mlflow": {"enabled": False, "externalUri": "https://mlflow.example.org"}},
        {
            (kind, "kinetoscope-mlflow")
            for kind in ("Deployment", "Service", "PersistentVolumeClaim", "ServiceAccount")
        },
    ),
    (
        "development store",
        STORE,
        {},
        {
            (kind, "kinetoscope-s3")
            for kind in ("Deployment", "Service", "PersistentVolumeClaim", "ServiceAccount")
        },
    ),
    (
        "generated keys",
        merged(STORE, {"objectStore": {"existingSecret": "", "generateCredentials": True}}),
        {},
        {("Secret", "kinetoscope-object-store")},
    ),
    (
        "quota",
        {"quota": {"enabled": True}},
        {},
        {("ResourceQuota", "kinetoscope-runs"), ("LimitRange", "kinetoscope-runs")},
    ),
    (
        "network policies",
        {},
        {"networkPolicy": {"enabled": False}},
        {("NetworkPolicy", f"kinetoscope-{of}") for of in ("mlflow", "training", "steps")},
    ),
    ("two servers", TWO_SERVERS, {}, {("PodDisruptionBudget", "kinetoscope-mlflow")}),
    (
        "a claim of the user's",
        {},
        {"mlflow": {"persistence": {"existingClaim": "mine"}}},
        {("PersistentVolumeClaim", "kinetoscope-mlflow")},
    ),
]


def _without(api: str) -> list[str]:
    return [one for one in ALL_APIS if one != api]


def test_every_three_way_setting_is_tested() -> None:
    three_way = {str(value) for value in values() if "auto" in value.node.get("enum", [])}
    assert three_way - {"objectStore.addressing"} == set(NEEDS_AN_API)


@pytest.mark.parametrize(("name", "api", "kind"), WITHOUT)
def test_auto_follows_the_cluster(name: str, api: str, kind: str) -> None:
    wanted = merged(MINIMAL, nest(tuple(name.split(".")), "auto"))
    assert render(wanted).kind(kind)
    left_out = render(wanted, api_versions=_without(api))
    assert not left_out.kind(kind)
    assert f"this cluster has no {api} ({name} is auto)" in left_out.notes
    assert f"({name} is auto)" not in render(wanted).notes


@pytest.mark.parametrize(("name", "api", "kind"), WITHOUT)
def test_true_needs_the_cluster_to_have_it(name: str, api: str, kind: str) -> None:
    wanted = merged(MINIMAL, nest(tuple(name.split(".")), True))
    assert render(wanted).kind(kind)
    with pytest.raises(ChartRefusedError, match=rf"{name} is true.*{api}.*install"):
        render(wanted, api_versions=_without(api))


@pytest.mark.parametrize(("name", "api", "kind"), WITHOUT)
def test_false_leaves_it_out(name: str, api: str, kind: str) -> None:
    wanted = merged(MINIMAL, nest(tuple(name.split(".")), False))
    assert not render(wanted).kind(kind)
    assert f"{name} is false" in render(wanted).notes


@pytest.mark.parametrize(
    ("on", "off", "wanted"), [s[1:] for s in SWITCHES], ids=[s[0] for s in SWITCHES]
)
def test_a_switch_adds_its_objects_and_only_when_on(
    on: Mapping[str, Any], off: Mapping[str, Any], wanted: set[tuple[str, str]]
) -> None:
    def named(given: Mapping[str, Any]) -> set[tuple[str, str]]:
        return {(kind, name) for kind, _, name in render(merged(MINIMAL, given)).names()}

    assert wanted <= named(on)
    assert not wanted & named(off)


def test_a_cluster_without_any_custom_resource_gets_only_built_in_kinds() -> None:
    groups = {
        item["apiVersion"].partition("/")[0] for item in render(MINIMAL, api_versions=()).objects
    }
    assert groups == {"v1", "apps", "networking.k8s.io", "rbac.authorization.k8s.io"}


def test_the_defaults_alone_are_refused_with_what_to_set() -> None:
    with pytest.raises(ChartRefusedError, match=r"set objectStore\.endpoint"):
        render({})


def test_two_servers_do_not_share_a_node_or_a_claim() -> None:
    deployment = render(merged(MINIMAL, TWO_SERVERS)).one("Deployment", "kinetoscope-mlflow")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    assert deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]


def test_each_run_namespace_gets_the_same_objects() -> None:
    spaces = [
        {"name": "kubeflow", "serviceAccount": "pipeline-runner"},
        {"name": "team-a", "serviceAccount": "default-editor"},
    ]
    rendering = render(merged(MINIMAL, {"runNamespaces": spaces, "quota": {"enabled": True}}))
    by_space = {
        space["name"]: {(k, n) for k, place, n in rendering.names() if place == space["name"]}
        for space in spaces
    }
    assert by_space["kubeflow"] == by_space["team-a"]
    kinds = {kind for kind, _ in by_space["team-a"]}
    assert kinds == {
        "ConfigMap",
        "LimitRange",
        "NetworkPolicy",
        "PodMonitor",
        "ResourceQuota",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    }
    binding = rendering.one("RoleBinding", "kinetoscope-launcher", "team-a")
    (subject,) = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == ("default-editor", "team-a")


def test_the_launcher_may_do_what_a_run_needs_and_no_more() -> None:
    role = render(MINIMAL).one("Role", "kinetoscope-launcher", "kubeflow")
    allowed = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    change = {"get", "list", "watch", "create", "patch", "delete"}
    assert allowed == {
        ("trainer.kubeflow.org", "trainjobs"): change,
        ("trainer.kubeflow.org", "trainingruntimes"): change,
        ("jobset.x-k8s.io", "jobsets"): {"get", "list"},
        ("batch", "jobs"): {"get", "list"},
        ("", "pods"): {"get", "list", "watch"},
        ("", "pods/log"): {"get"},
        ("", "events"): {"get", "list", "watch"},
        ("", "configmaps"): {"get"},
        ("kueue.x-k8s.io", "workloads"): {"get", "list", "patch"},
        ("argoproj.io", "workflows"): {"get", "watch"},
    }


@pytest.mark.parametrize("release", ["123", "kinetoscope", "prod"])
def test_the_environment_reaches_every_run(release: str) -> None:
    rendering = render(MINIMAL, release=release)
    name = release if "kinetoscope" in release else f"{release}-kinetoscope"
    data = rendering.one("ConfigMap", f"{name}-environment", "kubeflow")["data"]
    assert data == {
        "HOME": "/tmp",  # noqa: S108
        "KINO_CONTROL_PLANE_IMAGE": "ghcr.io/kinetoscope/control-plane:0.1.0",
        "KINO_LOG_FORMAT": "json",
        "KINO_VIDEO_CACHE_GIB": "16",
        "KINO_METRICS_ADDRESS": "0.0.0.0",  # noqa: S104
        "KINO_METRICS_PORT": "9464",
        "KINO_PULL_POLICY": "IfNotPresent",
        "KINO_S3_ADDRESSING": "auto",
        "KINO_S3_CREDENTIALS_PATH": "/var/run/secrets/kinetoscope/object-store",
        "KINO_S3_ENDPOINT": "https://s3.example.org",
        "KINO_S3_REGION": "us-east-1",
        "KINO_SHM_SIZE": "8Gi",
        "KINO_STORE_SECRET": "object-store",
        "KINO_STORE_SECRET_KEYS": "accesskey,secretkey",
        "KINO_STORE_URI": "s3://kinetoscope",
        "KINO_TRAINER_IMAGE": "ghcr.io/kinetoscope/trainer:0.1.0",
        "KINO_WORKSPACE": "/workspace",
        "KINO_WORKSPACE_SIZE": "100Gi",
        "MLFLOW_TRACKING_URI": f"http://{name}-mlflow.kinetoscope.svc:5000",
    }


EXAMPLES = ci_values()


@pytest.mark.parametrize("given", EXAMPLES.values(), ids=EXAMPLES)
def test_a_registry_reaches_every_image(given: Mapping[str, Any]) -> None:
    keys = ("trainer", "trainerColossalai", "controlPlane", "devStore")
    images = {key: {"registry": ""} for key in keys}
    wanted = merged(given, {"images": {"registry": "registry.example.org:5000/mirror", **images}})
    for reference in _images(wanted):
        assert reference.startswith("registry.example.org:5000/mirror/")


@pytest.mark.parametrize("given", EXAMPLES.values(), ids=EXAMPLES)
def test_digests_and_pull_secrets_reach_every_pod(given: Mapping[str, Any]) -> None:
    keys = ("trainer", "trainerColossalai", "controlPlane", "devStore")
    digests = {key: {"digest": "sha256:" + str(i) * 64} for i, key in enumerate(keys)}
    secrets = {"pullSecrets": ["regcred"], "pullPolicy": "Always"}
    wanted = merged(given, {"images": {**digests, **secrets}})
    assert all("@sha256:" in reference for reference in _images(wanted))
    for pod in pods_of(render(wanted).objects):
        assert pod.spec["imagePullSecrets"] == [{"name": "regcred"}], str(pod)
        assert {c["imagePullPolicy"] for c in pod.containers()} == {"Always"}, str(pod)


def _images(given: Mapping[str, Any]) -> list[str]:
    rendering = render(given)
    environment = rendering.kind("ConfigMap")
    named = [
        text for item in environment for key, text in item["data"].items() if key.endswith("_IMAGE")
    ]
    used = [c["image"] for pod in pods_of(rendering.objects) for c in pod.containers()]
    assert named
    assert len(used) >= 4
    return named + used
