"""The objects of a training job, rendered from the chart's own template."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import helm_python
import pytest
import yaml
from kubeflow_trainer_api import models

from kinetoscope.core.errors import ConfigError
from kinetoscope.kube.config import PodConfig, ScratchConfig
from kinetoscope.kube.jobs.render import render_runtime, render_train_job
from kinetoscope.kube.jobs.request import Engine, TrainingJob
from kinetoscope.kube.jobs.template import parse_template

CHART = Path(__file__).parents[4] / "charts" / "kinetoscope"


@pytest.fixture(scope="module")
def templates() -> dict[str, str]:
    values = {
        "objectStore": {"endpoint": "https://s3.example.com", "existingSecret": "store"},
        "labels": {"team": "video"},
        "runNamespaces": [{"name": "runs", "serviceAccount": "pipeline-runner"}],
    }
    rendered = helm_python.Chart.load(CHART).render(values, name="kinetoscope", namespace="kino")
    (config_map,) = yaml.safe_load_all(rendered["kinetoscope/templates/runs/templates.yaml"])
    data: dict[str, str] = config_map["data"]
    return data


@pytest.fixture(scope="module")
def template(templates: dict[str, str]) -> dict[str, Any]:
    return parse_template(templates["training-runtime.yaml"], where="chart")


def make_job(**changes: Any) -> TrainingJob:
    values: dict[str, Any] = {
        "name": "rabc2345-vae",
        "namespace": "runs",
        "run": "rabc2345",
        "stage": "train-vae",
        "command": ["kino", "step"],
    }
    return TrainingJob(**{**values, **changes})


def parts(runtime: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The JobSet template, the pod template and the training container."""
    jobset = runtime["spec"]["template"]
    (node,) = jobset["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    return jobset, pod, container


EVERYTHING = PodConfig(
    image="registry.example.com/trainer@sha256:" + "0" * 64,
    pull_secrets=("registry",),
    gpu_resource="amd.com/gpu",
    devices={"rdma/hca": 1},
    cpu="8",
    memory="64Gi",
    shm="16Gi",
    scratch=ScratchConfig(size="1Ti", storage_class="local-nvme"),
    node_selector={"pool": "gpu"},
    tolerations=({"key": "gpu", "operator": "Exists"},),
    affinity={"nodeAffinity": {}},
    topology_spread=({"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway"},),
    priority_class="high",
    scheduler="gangs",
    run_as_user=1234,
    s3_secret="team-a",  # noqa: S106  # the name of a Secret
    labels={"example.com/cost": "42"},
    env={"NCCL_DEBUG": "INFO"},
    queue="team-a",
    deadline_hours=0.5,
)
CLAIM = PodConfig(scratch=ScratchConfig(claim="scratch"), do_not_disrupt=False)


@pytest.mark.parametrize("key", ["training-runtime.yaml", "training-runtime-colossalai.yaml"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_nodes": 3, "procs_per_node": 8, "max_restarts": 0, "pod": EVERYTHING},
        {"pod": CLAIM, "grace_seconds": 900, "launched_for": "rabc2345/1"},
    ],
)
def test_rendered_objects_are_valid_for_kubeflow_trainer(
    templates: dict[str, str], key: str, changes: dict[str, Any]
) -> None:
    template = parse_template(templates[key], where=key)
    job = make_job(**changes)
    runtime, train_job = render_runtime(template, job), render_train_job(template, job)
    _, pod, container = parts(runtime)
    for port in container["ports"]:
        port.setdefault("protocol", "TCP")  # as the model does
    # The generated models have a class for quantities that takes no value at all.
    container.pop("resources", None)
    for volume in pod["spec"]["volumes"]:
        volume.get("emptyDir", {}).pop("sizeLimit", None)
        claim = volume.get("ephemeral", {}).get("volumeClaimTemplate", {}).get("spec", {})
        claim.pop("resources", None)
    parsed = models.TrainerV1alpha1TrainingRuntime.model_validate(runtime)
    assert parsed.to_dict() == runtime, "the model does not know some keys"
    parsed_job = models.TrainerV1alpha1TrainJob.model_validate(train_job)
    assert parsed_job.to_dict() == train_job, "the model does not know some keys"


def test_only_what_the_request_names_is_changed(template: dict[str, Any]) -> None:
    before = copy.deepcopy(template)
    runtime = render_runtime(template, make_job(pod=PodConfig(gpus=0, do_not_disrupt=False)))
    assert template == before
    jobset, pod, container = parts(runtime)
    for part in (runtime, jobset, jobset["spec"]["replicatedJobs"][0]["template"], pod):
        assert part["metadata"]["labels"]["kinetoscope.dev/run"] == "rabc2345"
        assert part["metadata"]["labels"]["kinetoscope.dev/stage"] == "train-vae"
        assert part["metadata"]["labels"]["kinetoscope.dev/team"] == "video"
        for label in ("run", "stage"):
            del part["metadata"]["labels"][f"kinetoscope.dev/{label}"]
    assert container.pop("terminationMessagePolicy") == "FallbackToLogsOnError"
    was = parts(before)[2]
    assert container.pop("resources") == {k: v for k, v in was.pop("resources").items() if v}
    assert runtime["spec"] == before["spec"]


def test_size_command_and_environment_go_into_the_train_job(template: dict[str, Any]) -> None:
    pod = PodConfig(env={"B": "1", "C": "3"}, deadline_hours=0.0001)
    job = make_job(num_nodes=2, procs_per_node=4, pod=pod, env={"B": "2", "A": "1"})
    spec = render_train_job(template, job)["spec"]
    env = {"A": "1", "B": "2", "C": "3"}
    assert spec == {
        "runtimeRef": {
            "apiGroup": "trainer.kubeflow.org",
            "kind": "TrainingRuntime",
            "name": "rabc2345-vae",
        },
        "trainer": {
            "numNodes": 2,
            "numProcPerNode": 4,
            "command": ["kino", "step"],
            "env": [{"name": name, "value": value} for name, value in env.items()],
        },
        "activeDeadlineSeconds": 1,
    }


def test_who_wants_the_job_is_told_where_it_is_known(template: dict[str, Any]) -> None:
    told = "kinetoscope.dev/launched-for"
    metadata = render_train_job(template, make_job(launched_for="rabc2345/2"))["metadata"]
    assert metadata["annotations"][told] == "rabc2345/2"
    assert told not in render_train_job(template, make_job())["metadata"]["annotations"]


def test_both_objects_carry_the_request_s_digest_and_no_chart_label(
    template: dict[str, Any],
) -> None:
    labelled = copy.deepcopy(template)
    labelled["metadata"]["labels"]["helm.sh/chart"] = "kinetoscope-0.1.0"
    job = make_job()
    for item in (render_runtime(labelled, job), render_train_job(labelled, job)):
        assert item["metadata"]["annotations"]["kinetoscope.dev/spec-digest"] == job.digest()
        assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kinetoscope"
        assert "helm.sh/chart" not in item["metadata"]["labels"]
        assert (item["metadata"]["name"], item["metadata"]["namespace"]) == (job.name, "runs")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "ClusterTrainingRuntime"}, "is no TrainingRuntime"),
        ({"spec": {"template": {"spec": {"replicatedJobs": []}}}}, "no replicated job 'node'"),
        ({"spec": {}}, "no replicated job 'node'"),
    ],
)
def test_a_template_without_what_we_change_is_refused(
    template: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_template(yaml.safe_dump({**template, **changes}), where="ConfigMap x")
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_template("{", where="ConfigMap x")


@pytest.mark.parametrize("engine", get_args(Engine))
def test_each_engine_has_its_image(templates: dict[str, str], engine: Engine) -> None:
    job = make_job(engine=engine)
    suffix = "" if engine == "torch_ddp" else "-colossalai"
    template = parse_template(templates[f"training-runtime{suffix}.yaml"], where="chart")
    _, _, container = parts(render_runtime(template, job))
    assert f"/kinetoscope/trainer{suffix}:" in container["image"]
