"""Start runs on a Kubeflow backend, and end them."""

from __future__ import annotations

from typing import Any

from kinetoscope.config.run import RunConfig
from kinetoscope.core.hashing import canonical_json
from kinetoscope.core.ids import run_id_of
from kinetoscope.pipelines.build import pipeline_document
from kinetoscope.pipelines.cluster.backend import Backend


def submit(
    backend: Backend,
    config: RunConfig,
    parameters: dict[str, str],
    service_account: str | None = None,
) -> tuple[str, str]:
    """Start a run of the pipeline of a config.

    Args:
        backend: where.
        config: of the run.
        parameters: of the pipeline, e.g. ``videos``.
        service_account: of its pods; None: the backend's own choice.

    Returns:
        Id of the run of Kubeflow Pipelines, and of ours.
    """
    resume_of = parameters.get("resume_of", "")
    body = _body(backend, config, parameters)
    body["display_name"] = f"{config.name} {resume_of}".strip()
    if service_account:
        body["service_account"] = service_account
    job_id = backend.pipelines.create_run(body)
    return job_id, resume_of or run_id_of(job_id)


def submit_recurring(
    backend: Backend, config: RunConfig, parameters: dict[str, str], cron: str
) -> str:
    """Have a run started by the clock, one at a time; return the id of what does so.

    Args:
        backend: where.
        config: of the runs.
        parameters: of the pipeline.
        cron: when, as Kubeflow writes it: six fields, seconds first.
    """
    body = _body(backend, config, parameters) | {
        "display_name": config.name,
        "trigger": {"cron_schedule": {"cron": cron}},
        "max_concurrency": "1",
        "mode": "ENABLE",
        "no_catchup": True,
    }
    return backend.pipelines.create_recurring_run(body)


def _body(backend: Backend, config: RunConfig, parameters: dict[str, str]) -> dict[str, Any]:
    text = canonical_json(config.to_json())
    return {
        "experiment_id": backend.pipelines.experiment(config.name),
        "pipeline_spec": pipeline_document(config, backend.release),
        "runtime_config": {"parameters": {"config": text, **parameters}},
    }
