"""Whole runs on a Kubeflow Pipelines backend, whoever starts them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from secrets_told import places_of_secret
from tiny.kubeflow import GPU, STAGE, Lab, Submitted, overrides

from kinetoscope.config.load import load_config
from kinetoscope.core.hashing import canonical_json
from kinetoscope.runs.find import list_runs
from kinetoscope.runs.steps import planned_steps
from kinetoscope.storage.open import open_store

pytestmark = [pytest.mark.kubeflow, pytest.mark.timeout(3600)]


def test_a_run_ends_with_a_registered_model_and_tells_no_secret(lab: Lab) -> None:
    words = ("run", "--recipe", "smoke", "--videos", str(lab.videos), "--wait", "--json")
    waiting = lab.start(*words, *overrides(1, 40))
    gpus: set[str] = set()

    def has_ended() -> bool:
        for pod in _all_pods(lab):
            limits = pod["spec"]["containers"][-1].get("resources", {}).get("limits", {})
            if GPU in limits and pod["spec"].get("nodeName"):
                gpus.add(pod["metadata"]["labels"]["kinetoscope.dev/stage"])
        return waiting.poll() is not None

    lab.wait_for(has_ended, "the end of kino run --wait")
    told, failed = waiting.communicate()
    assert waiting.returncode == 0, failed
    run = json.loads(told)["run"]
    status = lab.status(run)
    assert status["state"] == "succeeded"
    assert {step["state"] for step in status["steps"]} == {"done"}
    trained = {step["name"] for step in status["steps"] if step["name"].startswith("train_")}
    assert gpus >= trained | {"evaluate_vae", "encode_latents", "evaluate_dit"}
    job = lab.records(run).latest_start().record.job_id  # type: ignore[union-attr]
    assert lab.wait_for_end(job) == "SUCCEEDED"
    tasks = lab.api("GET", f"runs/{job}")["run_details"]["task_details"]
    states = {task["display_name"]: task["state"] for task in tasks}
    components = {step.component for step in planned_steps(load_config("smoke").config)}
    for name in ("begin_run", *components):
        assert states[name.replace("_", "-")] == "SUCCEEDED", name
    _is_in_mlflow(lab, run)
    assert f"run {run}" in lab.kino("logs", run, "begin_run")
    assert "step" in lab.kino("logs", run, STAGE)
    assert places_of_secret(lab, Submitted(run, job)) == []


def test_runs_that_kino_did_not_start(lab: Lab) -> None:
    pipeline = lab.compiled(overrides(5, 40))
    by_hand = lab.api("POST", "runs", pipeline | _parameters(videos=lab.uploaded()))["run_id"]
    other = canonical_json(load_config("tiny").config.to_json())
    wrong = pipeline | _parameters(videos=lab.uploaded(), config=other)
    refused = lab.api("POST", "runs", wrong)["run_id"]
    assert lab.wait_for_end(refused) == "FAILED"
    row = lab.row(refused)
    assert row["state"] == "refused"
    assert "the config is for another pipeline than this one" in row["reason"]
    assert lab.wait_for_end(by_hand) == "SUCCEEDED", lab.told()
    done = lab.row(by_hand)
    assert done["state"] == "succeeded"

    words = ("run", "--recipe", "smoke", "--videos", str(lab.videos), "--json")
    every = ("--every", "*/20 * * * * *")
    recurring = json.loads(lab.kino(*words, *every, *overrides(5, 40)))["recurring_run"]
    try:
        lab.wait_for(lambda: _jobs_of(lab, recurring), "a run that the clock starts")
    finally:
        lab.api("POST", f"recurringruns/{recurring}:disable")
    (job, *_) = _jobs_of(lab, recurring)
    assert lab.wait_for_end(job) == "SUCCEEDED", lab.told()
    row = lab.row(job)
    assert (row["state"], row["steps_done"]) == ("succeeded", row["num_steps"])
    steps = lab.status(row["run"])["steps"]
    assert all(step["cached"] for step in steps if step["name"] != "register_model")


def test_the_doctor_is_content(lab: Lab) -> None:
    told = lab.start(
        "doctor", "--on", "cluster", "--profile", "lab", "--smoke-nodes", "1", "--json"
    )
    text, failed = told.communicate(timeout=900)
    assert text, failed
    bad = [finding for finding in json.loads(text) if finding["state"] == "bad"]
    assert bad == []
    assert told.returncode == 0


def _parameters(**given: str) -> dict[str, Any]:
    return {"display_name": "by hand", "runtime_config": {"parameters": given}}


def _jobs_of(lab: Lab, recurring: str) -> list[str]:
    found = lab.api("GET", "runs?page_size=50&sort_by=created_at%20desc").get("runs", [])
    return [run["run_id"] for run in found if run.get("recurring_run_id") == recurring]


def _all_pods(lab: Lab) -> list[dict[str, Any]]:
    pods = lab.pods()
    return [pod for pod in pods if "kinetoscope.dev/stage" in pod["metadata"]["labels"]]


def _is_in_mlflow(lab: Lab, run: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(lab.variables["MLFLOW_TRACKING_URI"])
    experiments = [one.experiment_id for one in client.search_experiments()]
    (parent,) = client.search_runs(experiments, f"tags.`kinetoscope.dev/run` = '{run}'")
    assert parent.info.status == "FINISHED"
    wanted = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    nested = {r.info.run_name: r for r in client.search_runs(experiments, wanted)}
    assert set(nested) == set(lab.records(run).record.steps)
    assert {r.info.status for r in nested.values()} == {"FINISHED"}
    curves = {name: _curve(client, r.info.run_id) for name, r in nested.items()}
    assert all(len(curves[name]) > 1 for name in curves if name.startswith("train_"))
    shown = client.list_artifacts(nested["evaluate_dit"].info.run_id)
    assert shown, "samples"
    (version, *_) = json.loads(lab.kino("models", "ls", "--json"))
    shown_version = json.dumps(version)
    assert run in shown_version
    store = open_store(lab.variables["KINO_STORE_URI"])
    assert any(stat.key.endswith(".safetensors") for stat in store.list("steps"))
    assert run in list(map(_run_id, list_runs(store.uri)))


def _run_id(run: Any) -> str:
    return str(run.run_id)


def _curve(client: Any, tracked: str) -> list[Any]:
    metrics = client.get_run(tracked).data.metrics
    losses = [name for name in metrics if name.endswith("loss")]
    return client.get_metric_history(tracked, losses[0]) if losses else []
