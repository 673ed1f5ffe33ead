"""A training of a few hundred steps that takes seconds, and what may have got lost of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from tiny.models import SPATIAL_VAE
from tiny.steps import step_spec

from kinetoscope.checkpoints.read import Checkpoint, read_checkpoint
from kinetoscope.steps.contract import STEPS, RuntimeConfig, StepSpec, attempt_key
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.results import read_result
from kinetoscope.storage.keys import split_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

CONFIG: dict[str, Any] = {
    "model": SPATIAL_VAE.to_json(),
    "loss": {"l1_weight": 0.2, "mse_weight": 1, "perceptual_weight": 0, "reduction": "mean"},
    "plan": {"num_frames": 1, "height": 32, "width": 32, "batch_size": 2},
    "loop": {
        "num_steps": 150,
        "micro_batches_per_step": 2,
        "optimizer": {"lr": 1e-3, "eps": 1e-4},
        "schedule": {"kind": "cosine", "warmup_steps": 5},
        "ema_decay": 0.9,
        "checkpoint_every_steps": 20,
        "log_every_steps": 10,
    },
}
# Of a row of metrics: what is the same whenever, and however often, a step is trained.
_OF_THE_STEP = ("train.loss", "train.grad_norm", "train.learning_rate", "train.mse")


def training_spec(clips_uri: str, name: str, runtime: RuntimeConfig, **loop: object) -> StepSpec:
    """Return a training of its own; ``name`` is no part of its random keys."""
    return step_spec(
        "train_spatial_vae",
        "kinetoscope.training.vae.train_spatial_vae",
        split_uri(clips_uri, STEPS)[0],
        {**CONFIG, "loop": {**CONFIG["loop"], **loop}},
        inputs={"clips": clips_uri},
        fingerprint=name,
        runtime=runtime,
    )


def final_checkpoint(spec: StepSpec) -> Checkpoint:
    """Return what a training that is done has come to."""
    result = read_result(spec.uri)
    assert result is not None
    return read_checkpoint(open_store(result.artifact_uri("checkpoint")))


def other_bits(found: Checkpoint, expected: Checkpoint) -> list[str]:
    """Tell in what a checkpoint differs from another one, to the bit."""
    told = [] if found.state == expected.state else ["the state"]
    if found.tensors.keys() != expected.tensors.keys():
        return [*told, "the groups"]
    for group, tensors in expected.tensors.items():
        own = found.tensors[group]
        if own.keys() != tensors.keys():
            told.append(f"the names of {group}")
        elif not all(torch.equal(own[name], tensor) for name, tensor in tensors.items()):
            told.append(group)
    return told


def loss_rows(spec: StepSpec) -> dict[int, list[dict[str, float]]]:
    """Return what each step's loss and its like were, once for every attempt that told it."""
    store = open_store(spec.uri)
    rows: dict[int, list[dict[str, float]]] = {}
    for data in _metrics(store, Ledger(store).state().generation):
        for line in data.splitlines():
            row = json.loads(line)
            values = {name: row["metrics"].get(name) for name in _OF_THE_STEP}
            rows.setdefault(row["step"], []).append(values)
    return rows


def lost(spec: StepSpec, undisturbed: StepSpec) -> list[str]:
    """Tell what a training that is done lacks of one that nothing happened to, or has otherwise."""
    told = [
        f"other bits in {what}" for what in other_bits(*map(final_checkpoint, (spec, undisturbed)))
    ]
    rows, expected = loss_rows(spec), loss_rows(undisturbed)
    missing = sorted(expected.keys() - rows.keys())
    other = [step for step, each in rows.items() if any(row != expected[step][0] for row in each)]
    if missing:
        told.append(f"no rows of metrics of steps {missing}")
    if other:
        told.append(f"other losses in steps {other}")
    return told


def _metrics(store: ObjectStore, num_attempts: int) -> Iterator[bytes]:
    for generation in range(1, num_attempts + 1):
        keys = [stat.key for stat in store.list(attempt_key(generation))]
        yield from (store.get_bytes(key) for key in keys if key.endswith("/metrics.jsonl"))
