"""What a step is: the fingerprint of all that changes its result, and the spec that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetoscope.config.run import RunConfig
from kinetoscope.core.code_version import code_version
from kinetoscope.core.config_model import Config
from kinetoscope.core.errors import StorageError
from kinetoscope.core.hashing import digest_json
from kinetoscope.models.config import ModelConfig
from kinetoscope.models.kinds import modules_of
from kinetoscope.runs.records import STOP_KEY, RunRecord
from kinetoscope.runs.steps import RunStep, planned_step
from kinetoscope.steps.contract import StepSpec, read_result

# What changes how a step runs but not what it makes: left out of its fingerprint.
_NOT_CONTENT = frozenset(
    {
        "cache_mib",
        "checkpoint_every_steps",
        # Like the number of ranks: another engine may go on with the same checkpoints.
        "engine",
        "keep_checkpoints",
        "log_every_steps",
        "num_workers",
        "prefetch_steps",
    }
)


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
            code=code_version(*modules_of_step(step)),
        ),
        runtime=step.runtime,
        stop_key=f"runs/{record.run_id}/{STOP_KEY}",
        origin={
            "config-hash": digest_json(config.to_json()),
            "code-version": record.code_version,
        },
    )


def fingerprint(
    *, name: str, config: dict[str, Any], seed: int, inputs: dict[str, str], code: str
) -> str:
    """Name the work: the same config, seed, input digests and code give the same 16 hex digits.

    Args:
        name: the step's name.
        config: the step's own piece of config.
        seed: seed of the run.
        inputs: digest of each input's result.
        code: version of the code that the worker can reach.
    """
    value = {"name": name, "config": config, "seed": seed, "inputs": inputs, "code": code}
    return digest_json(value).removeprefix("sha256:")[:16]


def content(value: Any) -> Any:
    """Return the part of a piece, as JSON, that decides what the step makes."""
    if isinstance(value, dict):
        return {k: content(v) for k, v in value.items() if k not in _NOT_CONTENT}
    if isinstance(value, list):
        return [content(item) for item in value]
    return value


def modules_of_step(step: RunStep) -> set[str]:
    """Return the modules that a step starts from: its worker, and the kinds of its models."""
    return {step.worker, *_kinds_modules(step.piece)}


def _kinds_modules(value: Any) -> set[str]:
    found = set(modules_of(value)) if isinstance(value, ModelConfig) else set()
    if isinstance(value, Config):
        parts = [getattr(value, name) for name in type(value).model_fields]
    elif isinstance(value, Mapping):
        parts = list(value.values())
    else:
        parts = list(value) if isinstance(value, list | tuple) else []
    return found.union(*map(_kinds_modules, parts))


def _digest(name: str, uri: str) -> str:
    result = read_result(uri)
    if result is None:
        raise StorageError(f"input {name!r} has no committed result at {uri}")
    return result.digest
