"""The training runtimes: what Trainer accepts, and the failure policy as tried on a cluster."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from chart_values import merged
from kubeflow_trainer_api import models
from pods import runtime_pod
from rendering import MINIMAL, Object, render

from kinetoscope.core.errors import ExitCode

PLACED: dict[str, Any] = {
    "training": {
        "maxRestarts": 5,
        "graceSeconds": 900,
        "unreachableSeconds": 45,
        "metricsPort": 9100,
        "shm": {"sizeLimit": "16Gi"},
        "workspace": {"sizeLimit": "20Gi"},
        "resources": {
            "requests": {"cpu": "8"},
            "limits": {"nvidia.com/gpu": "8", "memory": "64Gi"},
        },
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "priorityClassName": "training",
        "schedulerName": "gangs",
        "topologySpread": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
            }
        ],
        "extraEnv": [{"name": "NCCL_DEBUG", "value": "INFO"}],
        "extraVolumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
        "extraVolumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    },
    "objectStore": {"ca": {"existingConfigMap": "private-ca", "key": "root.pem"}},
}
VALUES = {"minimal": MINIMAL, "all settings": merged(MINIMAL, PLACED)}
RUNTIMES = ("training-runtime.yaml", "training-runtime-colossalai.yaml", "ClusterTrainingRuntime")


def _runtime(given: dict[str, Any], which: str) -> Object:
    rendering = render(merged(given, {"clusterTrainingRuntime": "auto"}))
    if which == "ClusterTrainingRuntime":
        (found,) = rendering.kind(which)
        return found
    text = rendering.one("ConfigMap", "kinetoscope-templates", "kubeflow")["data"][which]
    runtime: Object = yaml.safe_load(text)
    return runtime


def _node(given: dict[str, Any], which: str = RUNTIMES[0]) -> Object:
    (container,) = runtime_pod(_runtime(given, which))["spec"]["containers"]
    assert container["name"] == "node"
    return dict(container)


def _unknown_to_trainer(runtime: Object) -> list[str]:
    """Paths that are lost on the way through Trainer's own models, which drop what they ignore."""
    kinds: dict[str, Any] = {
        "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime,
        "ClusterTrainingRuntime": models.TrainerV1alpha1ClusterTrainingRuntime,
    }
    read = kinds[runtime["kind"]].from_dict(copy.deepcopy(runtime)).to_dict()
    return list(_lost(runtime, read, ""))


def _lost(ours: object, read: object, path: str) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(read, dict):
        for key, value in ours.items():
            if key not in read:
                yield f"{path}.{key}"
            else:
                yield from _lost(value, read[key], f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(read, list) and len(ours) == len(read):
        for index, pair in enumerate(zip(ours, read, strict=True)):
            yield from _lost(*pair, f"{path}[{index}]")
    elif ours != read:
        yield f"{path}: {ours} became {read}"


@pytest.mark.parametrize("which", RUNTIMES)
@pytest.mark.parametrize("given", VALUES.values(), ids=VALUES)
def test_trainer_knows_every_field(given: dict[str, Any], which: str) -> None:
    assert _unknown_to_trainer(_runtime(given, which)) == []


def test_a_field_that_trainer_does_not_know_is_noticed() -> None:
    runtime = _runtime(MINIMAL, RUNTIMES[0])
    runtime["spec"]["mlPolicy"]["torch"]["numProcPerNode"] = 2
    assert _unknown_to_trainer(runtime) == [".spec.mlPolicy.torch.numProcPerNode"]


@pytest.mark.parametrize("which", RUNTIMES)
def test_the_failure_policy_tells_exit_codes_apart(which: str) -> None:
    """Exit codes of design 7: 2, 77 and 79 are final, 75, 78 and disruptions are free."""
    job_set = _runtime(MINIMAL, which)["spec"]["template"]["spec"]
    (job,) = job_set["replicatedJobs"]
    spec = job["template"]["spec"]
    codes = {"containerName": "node", "operator": "In"}
    assert spec["backoffLimit"] == 0
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onExitCodes": codes | {"values": [2, 77, 79]}},
        {"action": "FailJob", "onExitCodes": codes | {"values": [75, 78]}},
        {
            "action": "FailJob",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
    ]
    policy = job_set["failurePolicy"]
    assert policy["maxRestarts"] == 2
    assert [
        (rule["action"], rule["onJobFailureReasons"], rule["onJobFailureMessagePatterns"])
        for rule in policy["rules"]
    ] == [
        ("FailJobSet", ["PodFailurePolicy"], ["exit code (2|77|79) "]),
        (
            "RestartJobSetAndIgnoreMaxRestarts",
            ["PodFailurePolicy"],
            ["exit code (75|78) |DisruptionTarget"],
        ),
    ]


@pytest.mark.parametrize("which", RUNTIMES)
@pytest.mark.parametrize("given", VALUES.values(), ids=VALUES)
def test_no_finished_job_is_run_again_after_a_time(given: dict[str, Any], which: str) -> None:
    assert "ttlSecondsAfterFinished" not in str(_runtime(given, which))


@pytest.mark.parametrize("which", RUNTIMES)
def test_the_job_is_marked_as_the_trainers(which: str) -> None:
    (job,) = _runtime(MINIMAL, which)["spec"]["template"]["spec"]["replicatedJobs"]
    labels = job["template"]["metadata"]["labels"]
    assert labels["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"


def test_the_pod_has_what_training_needs() -> None:
    pod = runtime_pod(_runtime(MINIMAL, RUNTIMES[0]))["spec"]
    volumes = {volume.pop("name"): volume for volume in copy.deepcopy(pod["volumes"])}
    mounts = {m["name"]: m["mountPath"] for m in _node(MINIMAL)["volumeMounts"]}
    assert volumes["shm"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
    assert mounts["shm"] == "/dev/shm"  # noqa: S108
    assert mounts["workspace"] == "/workspace"
    assert mounts["tmp"] == "/tmp"  # noqa: S108
    assert pod["terminationGracePeriodSeconds"] == 600
    assert {(t["key"], t["effect"], t["tolerationSeconds"]) for t in pod["tolerations"]} == {
        ("node.kubernetes.io/not-ready", "NoExecute", 30),
        ("node.kubernetes.io/unreachable", "NoExecute", 30),
    }
    ports = [(p["name"], p["containerPort"]) for p in _node(MINIMAL)["ports"]]
    assert ports == [("metrics", 9464)]


@pytest.mark.parametrize("which", RUNTIMES)
def test_the_keys_of_the_store_are_files_and_never_environment(which: str) -> None:
    runtime = _runtime(MINIMAL, which)
    (store,) = [v for v in runtime_pod(runtime)["spec"]["volumes"] if v["name"] == "object-store"]
    assert store["projected"] == {
        "defaultMode": 0o440,
        "sources": [
            {
                "secret": {
                    "name": "object-store",
                    "items": [
                        {"key": "accesskey", "path": "access_key"},
                        {"key": "secretkey", "path": "secret_key"},
                    ],
                }
            }
        ],
    }
    node = _node(MINIMAL, which)
    (mount,) = [m for m in node["volumeMounts"] if m["name"] == "object-store"]
    assert mount["mountPath"] == "/var/run/secrets/kinetoscope/object-store"
    assert "secretKeyRef" not in str(node.get("env"))
    assert node["envFrom"] == [{"configMapRef": {"name": "kinetoscope-environment"}}]
    named = [e for e in node["env"] if "valueFrom" in e]
    fields = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in named}
    assert fields == {
        "KINO_POD_UID": "metadata.uid",
        "KINO_LAUNCH_ID": "metadata.labels['jobset.sigs.k8s.io/restart-attempt']",
    }


@pytest.mark.parametrize("which", RUNTIMES)
def test_a_pod_that_is_told_to_stop_finds_a_file_that_says_so(which: str) -> None:
    node = _node(MINIMAL, which)
    (told,) = [e["value"] for e in node["env"] if e["name"] == "KINO_STOP_FILE"]
    assert node["lifecycle"] == {"preStop": {"exec": {"command": ["touch", told]}}}
    folders = {m["mountPath"] for m in node["volumeMounts"] if not m.get("readOnly")}
    assert told.rpartition("/")[0] in folders, "the image itself can't be written to"


def test_each_exit_code_has_one_meaning_in_both_policies() -> None:
    """The JobSet sees only the Job's message, as Kubernetes words it."""
    job_set = _runtime(MINIMAL, RUNTIMES[0])["spec"]["template"]["spec"]
    (job,) = job_set["replicatedJobs"]
    final, free, _ = job["template"]["spec"]["podFailurePolicy"]["rules"]
    told = {
        code: next(
            rule["action"]
            for rule in job_set["failurePolicy"]["rules"]
            if any(re.search(p, _message(code)) for p in rule["onJobFailureMessagePatterns"])
        )
        for code in (*final["onExitCodes"]["values"], *free["onExitCodes"]["values"])
    }
    assert told == {
        ExitCode.USER_ERROR: "FailJobSet",
        ExitCode.DIVERGED: "FailJobSet",
        ExitCode.WITHDRAWN: "FailJobSet",
        ExitCode.PREEMPTED: "RestartJobSetAndIgnoreMaxRestarts",
        ExitCode.LOST_PEER: "RestartJobSetAndIgnoreMaxRestarts",
    }


def _message(code: int) -> str:
    return f"Container node for pod runs/a-node-0-0 failed with exit code {code} matching FailJob rule at index 0"  # noqa: E501


def test_every_training_setting_reaches_the_pod() -> None:
    given = VALUES["all settings"]
    job_set = _runtime(given, RUNTIMES[0])["spec"]["template"]["spec"]
    pod, node = runtime_pod(_runtime(given, RUNTIMES[0]))["spec"], _node(given)
    wanted = PLACED["training"]
    assert job_set["failurePolicy"]["maxRestarts"] == 5
    assert pod["terminationGracePeriodSeconds"] == 900
    assert pod["nodeSelector"] == wanted["nodeSelector"]
    assert pod["priorityClassName"] == "training"
    assert pod["schedulerName"] == "gangs"
    (spread,) = pod["topologySpreadConstraints"]
    chosen = spread["labelSelector"]["matchLabels"]
    assert wanted["topologySpread"][0].items() <= spread.items()
    assert chosen.items() <= runtime_pod(_runtime(given, RUNTIMES[0]))["metadata"]["labels"].items()
    assert wanted["tolerations"][0] in pod["tolerations"]
    assert {t["tolerationSeconds"] for t in pod["tolerations"] if "tolerationSeconds" in t} == {45}
    assert node["resources"] == wanted["resources"]
    assert wanted["extraEnv"][0] in node["env"]
    assert wanted["extraVolumes"][0] in pod["volumes"]
    assert wanted["extraVolumeMounts"][0] in node["volumeMounts"]
    assert [p["containerPort"] for p in node["ports"]] == [9100]


def test_a_private_ca_reaches_training_and_probe() -> None:
    rendering = render(VALUES["all settings"])
    data = rendering.one("ConfigMap", "kinetoscope-environment", "kubeflow")["data"]
    # By the ConfigMap's own name for it: what mounts it for a step can rename nothing.
    assert data["KINO_S3_CA_FILE"] == "/etc/kinetoscope/object-store-ca/root.pem"
    assert data["KINO_STORE_CA_CONFIG_MAP"] == "private-ca"
    templates = rendering.one("ConfigMap", "kinetoscope-templates", "kubeflow")["data"]
    probe = yaml.safe_load(templates["probe-pod.yaml"])["spec"]
    training = runtime_pod(yaml.safe_load(templates[RUNTIMES[0]]))["spec"]
    for pod in (probe, training):
        (volume,) = [v for v in pod["volumes"] if v["name"] == "object-store-ca"]
        assert volume["configMap"] == {
            "name": "private-ca",
            "items": [{"key": "root.pem", "path": "root.pem"}],
        }
        (mount,) = [
            m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "object-store-ca"
        ]
        assert mount["mountPath"] == "/etc/kinetoscope/object-store-ca"


def test_the_two_engines_differ_in_the_image_alone() -> None:
    torch, colossalai = _runtime(MINIMAL, RUNTIMES[0]), _runtime(MINIMAL, RUNTIMES[1])
    assert _node(MINIMAL, RUNTIMES[0])["image"] == "ghcr.io/kinetoscope/trainer:0.1.0"
    assert _node(MINIMAL, RUNTIMES[1])["image"] == "ghcr.io/kinetoscope/trainer-colossalai:0.1.0"
    for runtime in (torch, colossalai):
        runtime_pod(runtime)["spec"]["containers"][0].pop("image")
    assert torch == colossalai


def test_scrape_annotations_name_the_metrics_port() -> None:
    given = VALUES["all settings"]
    assert runtime_pod(_runtime(given, RUNTIMES[0]))["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9100",
        "prometheus.io/path": "/metrics",
    }
    quiet = merged(MINIMAL, {"monitoring": {"scrapeAnnotations": False}})
    assert "annotations" not in runtime_pod(_runtime(quiet, RUNTIMES[0]))["metadata"]


def test_a_login_for_mlflow_comes_from_a_secret() -> None:
    own = {"enabled": False, "externalUri": "https://mlflow.example.org"}
    for kind, names in (("basic", ["USERNAME", "PASSWORD"]), ("token", ["TOKEN"])):
        auth = {"auth": {"existingSecret": "login", "kind": kind}}
        env = _node(merged(MINIMAL, {"mlflow": own | auth}))["env"]
        login = [v for v in env if v["name"].startswith("MLFLOW_TRACKING_")]
        assert [v["name"] for v in login] == [f"MLFLOW_TRACKING_{name}" for name in names]
        assert {v["valueFrom"]["secretKeyRef"]["name"] for v in login} == {"login"}
