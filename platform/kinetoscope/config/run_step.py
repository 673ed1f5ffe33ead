"""What every pipeline component calls: one step of a run."""

from __future__ import annotations

import json

from kinetoscope.config.check_plans import check_plans
from kinetoscope.config.run import RunConfig
from kinetoscope.config.steps import content, planned_step
from kinetoscope.core.code_version import code_version
from kinetoscope.core.errors import KinetoscopeError, StorageError
from kinetoscope.steps.contract import StepSpec, fingerprint, read_result
from kinetoscope.steps.execute import execute
from kinetoscope.steps.records import Failure, RunRecord, open_run
from kinetoscope.telemetry.logging_setup import setup_logging


def run_step(run_uri: str, name: str, inputs: dict[str, str]) -> str:
    """Run one step of a run, or find it done, and return the step's URI.

    Args:
        run_uri: where the run keeps its records and its resolved config.
        name: the step, e.g. ``train_vae_2``.
        inputs: URIs of the upstream steps, by input name.

    Raises:
        KinetoscopeError: of the kind that the step's exit code tells.
    """
    setup_logging()
    run = open_run(run_uri)
    try:
        config = RunConfig.model_validate(json.loads(run.store.get_bytes("config.json")))
        spec = step_spec(run.record, config, name, inputs)
        result = execute(spec)
        if not inputs:
            check_plans(config, result)
    except KinetoscopeError as error:
        run.note_failure(Failure.of(name, error))
        raise
    return spec.uri


def step_spec(record: RunRecord, config: RunConfig, name: str, inputs: dict[str, str]) -> StepSpec:
    """Return the step's spec; its fingerprint decides where it lives and whether it is done."""
    step = planned_step(config, name)
    piece = step.piece.to_json()
    if not step.inputs:
        piece |= {"videos": record.videos, "videos_digest": record.videos_digest}
    return StepSpec(
        name=name,
        worker=step.worker,
        run_id=record.run_id,
        root_uri=record.root_uri,
        config=piece,
        seed=config.seed,
        inputs=inputs,
        fingerprint=fingerprint(
            name=name,
            config=content(piece),
            seed=config.seed,
            inputs={key: _digest(key, uri) for key, uri in inputs.items()},
            code=code_version(step.worker),
        ),
        runtime=step.runtime,
    )


def _digest(name: str, uri: str) -> str:
    result = read_result(uri)
    if result is None:
        raise StorageError(f"input {name!r} has no committed result at {uri}")
    return result.digest
