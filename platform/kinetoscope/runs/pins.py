"""Where a run has its steps: pinned when it first comes to each, whatever code changes later."""

from __future__ import annotations

import logging
from pathlib import Path

from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import ConfigError, CorruptError
from kinetoscope.core.file_digests import FileDigests
from kinetoscope.core.settings import workspace
from kinetoscope.runs.identity import Identity, identify
from kinetoscope.runs.jobs.launchers import launcher_fields
from kinetoscope.runs.record_types import RunRecord, StepRecord
from kinetoscope.runs.records import RUNS, Run
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.steps import RunStep, planned_step
from kinetoscope.steps.contract import STEPS, StepSpec, step_key
from kinetoscope.steps.results import read_result
from kinetoscope.storage.keys import split_uri
from kinetoscope.storage.open import open_store

_log = logging.getLogger(__name__)


def pinned_spec(
    run: Run, start: RunStart, config: RunConfig, name: str, inputs: dict[str, str]
) -> StepSpec:
    """Return the spec of a step where the run is pinned to it, and pin it where it is not.

    A pin holds whatever code or version of Kinetoscope has come since. It ends when the step is to
    be made anew, and when an upstream result is another than the one that the step worked on.

    Args:
        run: whose records have the pins.
        start: of the run, that comes to the step.
        config: of the run.
        name: of the step.
        inputs: URIs of the upstream steps, by input name.

    Raises:
        ConfigError: weights that the config names are others than when the run began.
    """
    step, record = planned_step(config, name), run.record
    _check_weights(record)
    identity = identify(
        step, seed=config.seed, data=record.videos.digest, inputs=inputs, weights=record.weights
    )
    key = _pin(run, start, name, identity)
    spec = _spec(run, config, step, inputs, identity)
    return spec.model_copy(
        update={
            "fingerprint": key.rpartition("/")[2],
            "start": start.number,
            "stop_key": f"{RUNS}/{run.run_id}/{start.stop_key}",
            "reserve_key": f"{RUNS}/{run.run_id}/{start.reserve_key}",
            **launcher_fields(config, start, step),
        }
    )


def _pin(run: Run, start: RunStart, name: str, identity: Identity) -> str:
    """Return the step's key, noted in the run's records unless a later start writes there now."""
    fresh = run.fresh_requested(name)
    pin = _pin_of(run, name, damage_matters=not fresh)
    before = (*pin.before, pin.key) if pin is not None else ()
    if fresh:
        key = _reserve(run, name, identity.fingerprint)
    elif pin is not None and pin.inputs == identity.inputs:
        _tell_of_changes(run, pin, identity)
        run.check_latest(start)
        run.note_step(pin.model_copy(update={"start": start.number}))
        return pin.key
    else:
        key = step_key(name, identity.fingerprint)
    done = read_result(f"{run.root_uri}/{key}") is not None
    earlier = tuple(dict.fromkeys(place for place in before if place != key))
    run.check_latest(start)
    run.note_step(
        StepRecord(
            name=name,
            key=key,
            cached=done,
            start=start.number,
            inputs=identity.inputs,
            before=earlier,
        )
    )
    run.forget_fresh(name)
    return key


def _pin_of(run: Run, name: str, *, damage_matters: bool) -> StepRecord | None:
    try:
        return run.step(name)
    except CorruptError:
        if damage_matters:
            raise
        return None


def _reserve(run: Run, name: str, fingerprint: str) -> str:
    """Return the first free ``<fingerprint>-<n>``, which is then nobody else's."""
    root = open_store(run.root_uri)
    number = 1
    while True:
        key = step_key(name, f"{fingerprint}-{number}")
        if root.put_bytes_if_absent(f"{key}/fresh.json", b"{}"):
            return key
        number += 1


def _tell_of_changes(run: Run, pin: StepRecord, identity: Identity) -> None:
    if pin.key.rpartition("/")[2].partition("-")[0] != identity.fingerprint:
        _log.info(
            "%s goes on at %s: what it is made of has changed since the run came to it (now %s); "
            "kino resume %s --fresh %s would make it anew",
            pin.name, pin.key, identity.code_version, run.run_id, pin.name,
        )  # fmt: skip


def _check_weights(record: RunRecord) -> None:
    known = FileDigests(workspace().digests_path)
    for path, expected in record.weights.items():
        try:
            same = known.digest(Path(path)) == expected
        except OSError:  # it is gone
            same = False
        if not same:
            raise ConfigError(
                f"the weights at {path} are others than when run {record.run_id} began, or gone",
                hint="put the files back, or start a new run with kino run",
            )
    known.save()


def _spec(
    run: Run,
    config: RunConfig,
    step: RunStep,
    inputs: dict[str, str],
    identity: Identity,
) -> StepSpec:
    record = run.record
    return StepSpec(
        name=step.name,
        worker=step.worker,
        run_id=run.run_id,
        root_uri=run.root_uri,
        config=step.piece.to_json(),
        seed=config.seed,
        inputs={name: split_uri(uri, STEPS)[1] for name, uri in inputs.items()},
        fingerprint=identity.fingerprint,
        videos=run.videos,
        code_version=identity.code_version,
        runtime=step.runtime,
        origin={
            "config-hash": record.config_digest,
            "code-version": record.code_version,
        },
    )
