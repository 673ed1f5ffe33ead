"""Gathers what the training steps made into one bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.checkpoints.read import read_checkpoint
from kinetoscope.core.errors import NotFoundError
from kinetoscope.data.latents.format import INDEX, LatentIndex
from kinetoscope.inference.bundle import Bundle, BundleSpec
from kinetoscope.storage.open import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from kinetoscope.data.clip_table import ClipTable
    from kinetoscope.evaluation.config import GenerationConfig
    from kinetoscope.steps.contract import StepResult


def trained_bundle(
    inputs: Mapping[str, StepResult], table: ClipTable, config: GenerationConfig
) -> Bundle:
    """Return the trained models: the VAE, and the transformer's averaged (EMA) weights.

    Args:
        inputs: results named ``clips``, ``vae``, ``latents`` and ``dit``.
        table: the clips.
        config: the models' configs and defaults.
    """
    index = _latent_index(inputs["latents"])
    vae = _weights(inputs["vae"], ["weights"])
    for name, values in (("shift", index.shift), ("scale", index.scale)):
        vae[name] = vae[name].new_tensor(values).reshape(vae[name].shape)
    measured = {name: _flat(vae[name]) for name in ("shift", "scale")}
    artifacts = {"clips": "clips", "vae": "checkpoint", "latents": "latents", "dit": "checkpoint"}
    spec = BundleSpec(
        vae=config.vae.model_copy(update=measured),
        dit=config.dit,
        text_encoder=config.text_encoder,
        flow=config.flow,
        sampler=config.sampler,
        size=config.sample_size,
        fps=config.sample_fps,
        scores=typical_scores(table, config.conditioning),
        clean_captions=config.clean_captions,
        lineage={name: inputs[name].artifact(key).digest for name, key in artifacts.items()},
    )
    return Bundle(spec, vae, _weights(inputs["dit"], ["ema", "weights"]))


def typical_scores(table: ClipTable, names: tuple[str, ...]) -> dict[str, float]:
    """Return the median score of the training clips, which conditions a prompt by default."""
    train = table.split("train")
    return {name: float(np.median(getattr(train, f"{name}_score"))) for name in names}


def _flat(tensor: Tensor) -> tuple[float, ...]:
    return tuple(tensor.flatten().tolist())


def _weights(result: StepResult, groups: list[str]) -> dict[str, Tensor]:
    """Return the first group of a checkpoint that there is."""
    store = open_store(result.artifact("checkpoint").uri)
    *preferred, last = groups
    for group in preferred:
        try:
            return dict(read_checkpoint(store, groups=[group]).tensors[group])
        except NotFoundError:
            continue
    return dict(read_checkpoint(store, groups=[last]).tensors[last])


def _latent_index(result: StepResult) -> LatentIndex:
    return LatentIndex.from_bytes(open_store(result.artifact("latents").uri).get_bytes(INDEX))
