"""Each part of a request's pods, put into the pod of the chart's own template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from kinetoscope.core.errors import ConfigError
from kinetoscope.kube.config import PodConfig, ScratchConfig
from kinetoscope.kube.jobs.render import render_runtime
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.template import Manifest, parse_template, replicated_job

CHART = Path(__file__).parents[4] / "charts" / "kinetoscope"
SECRET = "team-a"  # noqa: S105  # the name of a Secret
VALUES: dict[str, Any] = {
    "objectStore": {"endpoint": "https://s3.example.com", "existingSecret": "store"},
    "runNamespaces": [{"name": "runs", "serviceAccount": "pipeline-runner"}],
}
TRAINING: dict[str, Any] = {
    "resources": {
        "requests": {
            "cpu": "4",
            "memory": "8Gi",
            "nvidia.com/gpu": "8",
            "ephemeral-storage": "9Gi",
        },
        "limits": {"cpu": "6", "memory": "8Gi", "nvidia.com/gpu": "8"},
    },
    "nodeSelector": {"pool": "a", "zone": "z"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "priorityClassName": "low",
    "schedulerName": "default",
    "topologySpread": [
        {"maxSkew": 9, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "extraEnv": [{"name": "MLFLOW_TRACKING_INSECURE_TLS", "value": "true"}],
}


def _rendered(values: dict[str, Any], pod: PodConfig, **request: Any) -> Manifest:
    chart = helm_python.Chart.load(CHART).render(
        {**VALUES, **values}, name="kinetoscope", namespace="kino"
    )
    (config_map,) = yaml.safe_load_all(chart["kinetoscope/templates/runs/templates.yaml"])
    template = parse_template(config_map["data"]["training-runtime.yaml"], where="chart")
    job = TrainingJob(
        name="train", namespace="runs", run="r", stage="s", command=["kino"], pod=pod, **request
    )
    rendered: Manifest = replicated_job(render_runtime(template, job))["template"]["spec"][
        "template"
    ]
    return rendered


def _pod(pod: PodConfig, **request: Any) -> Manifest:
    """A pod of a chart that has an opinion about everything."""
    return _rendered({"training": TRAINING}, pod, **request)


def _node(pod: Manifest) -> Manifest:
    (container,) = pod["spec"]["containers"]
    return dict(container)


def _volume(pod: Manifest, name: str) -> Manifest:
    (volume,) = [v for v in pod["spec"]["volumes"] if v["name"] == name]
    return {key: value for key, value in volume.items() if key != "name"}


@pytest.mark.parametrize(
    ("config", "procs", "devices"),
    [
        (PodConfig(), 4, {"nvidia.com/gpu": "4"}),
        (PodConfig(gpus=0), 4, {}),
        (PodConfig(gpus=2), 1, {"nvidia.com/gpu": "2"}),
        (PodConfig(gpu_resource="amd.com/gpu"), 2, {"amd.com/gpu": "2"}),
        (PodConfig(devices={"x.y/z": 1, "x.y/none": 0}), 1, {"nvidia.com/gpu": "1", "x.y/z": "1"}),
    ],
)
def test_the_request_s_devices_take_the_place_of_the_chart_s(
    config: PodConfig, procs: int, devices: dict[str, str]
) -> None:
    given = TRAINING["resources"]
    wanted = {
        kind: {k: v for k, v in given[kind].items() if k != "nvidia.com/gpu"} | devices
        for kind in given
    }
    assert _node(_pod(config, procs_per_node=procs))["resources"] == wanted


def test_memory_is_request_and_limit_and_cpu_has_no_limit() -> None:
    resources = _node(_pod(PodConfig(gpus=0, cpu="8", memory="64Gi")))["resources"]
    assert resources == {
        "requests": {"cpu": "8", "memory": "64Gi", "ephemeral-storage": "9Gi"},
        "limits": {"memory": "64Gi"},
    }


def test_a_chart_that_says_nothing_and_a_request_for_nothing_leave_nothing() -> None:
    assert _node(_rendered({}, PodConfig(gpus=0)))["resources"] == {}
    asked = _node(_rendered({}, PodConfig(gpus=1, cpu="2")))["resources"]
    one = {"nvidia.com/gpu": "1"}
    assert asked == {"requests": {"cpu": "2", **one}, "limits": one}


def test_image_and_pull_secrets() -> None:
    pod = _pod(PodConfig(image="own:1", pull_secrets=("one", "two")))
    assert _node(pod)["image"] == "own:1"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    private = {"images": {"pullSecrets": ["registry"]}}
    left = _rendered(private, PodConfig())["spec"]["imagePullSecrets"]
    assert left == [{"name": "registry"}]


def test_where_pods_go() -> None:
    spread = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    own = {**spread, "labelSelector": {"matchLabels": {"a": "b"}}}
    affinity = {"nodeAffinity": {"x": 1}}
    spec = _pod(
        PodConfig(
            node_selector={"pool": "b"},
            tolerations=({"key": "b"},),
            affinity=affinity,
            topology_spread=(spread, own),
            priority_class="high",
            scheduler="gangs",
        )
    )["spec"]
    assert spec["nodeSelector"] == {"pool": "b", "zone": "z"}
    assert spec["tolerations"][-2:] == [*TRAINING["tolerations"], {"key": "b"}]
    assert spec["affinity"] == affinity
    job = {"labelSelector": {"matchLabels": {"jobset.sigs.k8s.io/jobset-name": "train"}}}
    assert spec["topologySpreadConstraints"] == [{**job, **spread}, own]
    assert (spec["priorityClassName"], spec["schedulerName"]) == ("high", "gangs")


def test_what_the_request_leaves_out_is_as_the_chart_has_it() -> None:
    spec = _pod(PodConfig())["spec"]
    assert spec["nodeSelector"] == TRAINING["nodeSelector"]
    assert spec["tolerations"][-1:] == TRAINING["tolerations"]
    assert "affinity" not in spec
    assert [one["maxSkew"] for one in spec["topologySpreadConstraints"]] == [9]
    assert (spec["priorityClassName"], spec["schedulerName"]) == ("low", "default")
    assert spec["terminationGracePeriodSeconds"] == 600
    assert spec["securityContext"]["runAsUser"] == 10001


def test_shared_memory_counts_no_disk() -> None:
    wanted = {"emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}}
    assert _volume(_pod(PodConfig(shm="16Gi")), "shm") == wanted


@pytest.mark.parametrize(
    ("scratch", "volume"),
    [
        (ScratchConfig(), {"emptyDir": {"sizeLimit": "100Gi"}}),
        (ScratchConfig(size="1Ti"), {"emptyDir": {"sizeLimit": "1Ti"}}),
        (
            ScratchConfig(size="1Ti", storage_class="nvme"),
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "storageClassName": "nvme",
                            "resources": {"requests": {"storage": "1Ti"}},
                        }
                    }
                }
            },
        ),
        (ScratchConfig(claim="mine"), {"persistentVolumeClaim": {"claimName": "mine"}}),
    ],
)
def test_scratch_has_one_source(scratch: ScratchConfig, volume: dict[str, Any]) -> None:
    pod = _pod(PodConfig(scratch=scratch))
    assert _volume(pod, "workspace") == volume
    (mount,) = [m for m in _node(pod)["volumeMounts"] if m["name"] == "workspace"]
    folder = "train/node-$(JOB_COMPLETION_INDEX)" if scratch.claim else None
    assert (mount["mountPath"], mount.get("subPathExpr")) == ("/workspace", folder)


def test_claims_are_mounted_beside_the_chart_s_volumes() -> None:
    pod = _pod(PodConfig(claims={"weights": "/weights", "lists": "/mnt/lists"}))
    assert _volume(pod, "weights") == {"persistentVolumeClaim": {"claimName": "weights"}}
    mounted = {m["name"]: m["mountPath"] for m in _node(pod)["volumeMounts"]}
    assert mounted["weights"] == "/weights"
    assert mounted["lists"] == "/mnt/lists"
    assert mounted["workspace"] == "/workspace"


def test_the_store_s_keys_come_from_the_request_s_secret() -> None:
    pod = _pod(PodConfig(s3_secret=SECRET))
    (source,) = _volume(pod, "object-store")["projected"]["sources"]
    assert source["secret"]["name"] == SECRET
    assert [item["key"] for item in source["secret"]["items"]] == ["accesskey", "secretkey"]


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_mlflow_s_login_comes_from_the_request_s_secret(kind: str) -> None:
    auth = {"auth": {"existingSecret": "login", "kind": kind}}
    external = {"enabled": False, "externalUri": "https://mlflow.example.org", **auth}
    values = {"mlflow": external, "training": TRAINING}
    env = _node(_rendered(values, PodConfig(mlflow_secret=SECRET)))["env"]
    logins = [v["valueFrom"]["secretKeyRef"] for v in env if "secretKeyRef" in str(v)]
    assert {login["name"] for login in logins} == {SECRET}
    assert TRAINING["extraEnv"][0] in env, "no login"


def test_a_secret_for_a_login_that_nobody_needs_is_refused() -> None:
    with pytest.raises(ConfigError, match="log in to no MLflow") as error:
        _pod(PodConfig(mlflow_secret=SECRET))
    assert "helm upgrade" in str(error.value.hint)


def test_the_user_owns_what_the_pods_write() -> None:
    security = _pod(PodConfig(run_as_user=1234))["spec"]["securityContext"]
    assert {security[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {1234}
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_labels_are_beside_those_by_which_pods_are_found() -> None:
    labels = _pod(PodConfig(labels={"example.com/cost": "42"}))["metadata"]["labels"]
    assert labels["example.com/cost"] == "42"
    assert labels["app.kubernetes.io/component"] == "training"
    assert (labels["kinetoscope.dev/run"], labels["kinetoscope.dev/stage"]) == ("r", "s")


@pytest.mark.parametrize("do_not_disrupt", [True, False])
def test_autoscalers_are_asked_to_leave_the_node(do_not_disrupt: bool) -> None:
    annotations = _pod(PodConfig(do_not_disrupt=do_not_disrupt))["metadata"]["annotations"]
    asked = {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }
    assert (asked.items() <= annotations.items()) is do_not_disrupt
    assert annotations["prometheus.io/scrape"] == "true"


def test_grace_and_the_last_lines_of_a_failed_rank() -> None:
    pod = _pod(PodConfig(), grace_seconds=930)
    assert pod["spec"]["terminationGracePeriodSeconds"] == 930
    assert _node(pod)["terminationMessagePolicy"] == "FallbackToLogsOnError"


@pytest.mark.parametrize(
    "config",
    [
        PodConfig(shm="1Gi"),
        PodConfig(scratch=ScratchConfig(size="1Gi")),
        PodConfig(s3_secret=SECRET),
    ],
)
def test_a_template_without_the_part_is_refused_with_what_to_do(config: PodConfig) -> None:
    container = {"name": "node", "image": "x"}
    pod = {"spec": {"containers": [container]}}
    node = {"name": "node", "template": {"spec": {"template": pod}}}
    template = {
        "kind": "TrainingRuntime",
        "spec": {"template": {"spec": {"replicatedJobs": [node]}}},
    }
    job = TrainingJob(
        name="train", namespace="runs", run="r", stage="s", command=["kino"], pod=config
    )
    with pytest.raises(ConfigError, match="training pod has no volume") as error:
        render_runtime(template, job)
    assert "helm upgrade" in str(error.value.hint)
