"""What a compiled pipeline asks Kubeflow for, for each of its pods."""

from __future__ import annotations

from typing import Any

import pytest

from kinetoscope.config.load import load_config
from kinetoscope.config.run import OTHER_STEPS
from kinetoscope.core.errors import ConfigError
from kinetoscope.pipelines.build import pipeline_document
from kinetoscope.pipelines.cluster.release import ENVIRONMENT_KEYS, Release
from kinetoscope.runs.steps import planned_steps

TOLD = {
    "KINO_TRAINER_IMAGE": "registry/trainer:1",
    "KINO_CONTROL_PLANE_IMAGE": "registry/control-plane:1",
    "KINO_STORE_SECRET": "keys",
}
CONFIG = load_config("smoke").config
TASKS = ["begin_run", *(step.name for step in planned_steps(CONFIG)), "finish_run"]


def compiled(*overrides: str, **told: str) -> dict[str, Any]:
    config = load_config("smoke", overrides).config
    return pipeline_document(config, Release.of("kinetoscope", {**TOLD, **told}))


def tasks(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each task's own words, its container and what Kubernetes gets, by display name."""
    spec = document["pipeline_spec"]
    platform = document["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = spec["deploymentSpec"]["executors"]
    found = {}
    for dag in (spec["root"], *spec["components"].values()):
        for task in dag.get("dag", {}).get("tasks", {}).values():
            label = spec["components"][task["componentRef"]["name"]].get("executorLabel")
            if label:
                container = executors[label]["container"]
                found[task["taskInfo"]["name"]] = {
                    "task": task, "container": container, "pod": platform[label],
                }  # fmt: skip
    return found


def test_every_task_can_run_in_a_restricted_namespace_and_reads_what_the_release_tells() -> None:
    found = tasks(compiled())
    assert sorted(found) == sorted(TASKS)
    for name, told in found.items():
        pod = told["pod"]
        user = {"runAsNonRoot": True, "runAsUser": "10001", "runAsGroup": "10001"}
        assert pod["securityContext"] == user
        (environment,) = pod["configMapAsEnv"]
        assert environment["configMapName"] == "kinetoscope-environment"
        assert [pair["envVar"] for pair in environment["keyToEnv"]] == list(ENVIRONMENT_KEYS)
        (secret,) = pod["secretAsVolume"]
        assert (secret["secretName"], "secretAsEnv" in pod) == ("keys", False)
        assert pod["podMetadata"]["labels"]["kinetoscope.dev/stage"] == name
        assert [mount["mountPath"] for mount in pod["emptyDirMounts"]] == ["/workspace"]


def test_lost_pods_are_retried_however_long_a_step_takes_and_nothing_is_cached() -> None:
    for told in tasks(compiled()).values():
        policy = told["task"]["retryPolicy"]
        assert policy["maxRetryCount"] == 10
        assert int(policy["backoffMaxDuration"].removesuffix("s")) >= 365 * 24 * 3600
        assert not told["task"].get("cachingOptions", {}).get("enableCache")


def test_training_is_launched_by_light_tasks_and_the_rest_runs_in_the_steps_own_pods() -> None:
    for name, told in tasks(compiled()).items():
        container = told["container"]
        env = {pair["name"]: pair["value"] for pair in container.get("env", [])}
        light = name not in OTHER_STEPS
        image = "registry/control-plane:1" if light else "registry/trainer:1"
        assert container["image"] == image
        assert (env.get("KINO_LAUNCHER") == "trainjob") == light
        assert env.get("KINO_RELEASE") == ("kinetoscope" if light else None)
        asks_for_gpus = "accelerator" in container.get("resources", {})
        assert asks_for_gpus == (name in ("evaluate_vae", "encode_latents", "evaluate_dit"))


def test_a_config_says_what_the_pods_of_steps_get() -> None:
    found = tasks(
        compiled(
            "cluster.other={memory: 8Gi, gpus: 0, env: {A: b}, pull_secrets: [mine], "
            "claims: {weights: /weights}}",
            "cluster.steps={evaluate_dit: {gpus: 2, node_selector: {pool: h100}}}",
            KINO_PULL_SECRETS="theirs",
            KINO_SHM_SIZE="2Gi",
        )
    )
    evaluation, preparation = found["evaluate_dit"], found["prepare_data"]
    assert evaluation["container"]["resources"]["accelerator"]["resourceCount"] == "2"
    assert evaluation["pod"]["nodeSelector"]["labels"] == {"pool": "h100"}
    assert preparation["container"]["resources"]["resourceMemoryLimit"] == "8Gi"
    assert {"name": "A", "value": "b"} in preparation["container"]["env"]
    (claim,) = preparation["pod"]["pvcMount"]
    assert (claim["constant"], claim["mountPath"]) == ("weights", "/weights")
    pulled = [one["secretName"] for one in preparation["pod"]["imagePullSecret"]]
    assert pulled == ["theirs", "mine"]
    assert {
        "mountPath": "/dev/shm",  # noqa: S108
        "medium": "Memory",
        "sizeLimit": "2Gi",
        "volumeName": "shm",
    } in (preparation["pod"]["emptyDirMounts"])
    assert "env" not in found["train_vae_1"]["container"] or {
        "name": "A", "value": "b",
    } not in found["train_vae_1"]["container"]["env"]  # fmt: skip


def test_keys_of_other_names_come_as_variables_since_kubeflow_renames_no_file() -> None:
    keys = "AWS_ACCESS_KEY_ID,SECRET"
    for told in tasks(compiled(KINO_STORE_SECRET_KEYS=keys)).values():
        assert "secretAsVolume" not in told["pod"]
        (secret,) = told["pod"]["secretAsEnv"]
        assert [(pair["secretKey"], pair["envVar"]) for pair in secret["keyToEnv"]] == [
            ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
            ("SECRET", "AWS_SECRET_ACCESS_KEY"),
        ]
        (environment,) = told["pod"]["configMapAsEnv"]
        given = [pair["envVar"] for pair in environment["keyToEnv"]]
        assert "KINO_S3_CREDENTIALS_PATH" not in given


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("cluster.other={priority_class: high}", "cluster.other.priority_class: unknown key"),
        ("cluster.other={scratch: {claim: mine}}", "other.scratch.claim"),
        ("cluster.other={s3_secret: my.keys}", "Kubeflow calls a volume after it"),
        ("cluster.other={s3_secret: workspace}", "Kubeflow calls a volume after it"),
        ("cluster.steps={prepare_data: {shm: 1Gi}}", "cluster.steps.prepare_data.shm: Kubeflow"),
        ("cluster.steps={register_model: {scratch: {claim: mine}}}", "only training jobs"),
    ],
)
def test_what_kubeflow_can_not_say_of_a_pod_is_refused(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("smoke", [override])
    assert told in caught.value.message


def test_a_release_of_an_older_chart_is_told_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="has no KINO_TRAINER_IMAGE, KINO_STORE_SECRET"):
        Release.of("kinetoscope", {"KINO_CONTROL_PLANE_IMAGE": "x"})
