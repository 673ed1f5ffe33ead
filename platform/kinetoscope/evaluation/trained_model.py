"""Gathers what the training steps made into one bundle."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.artifacts.latents import open_latent_index
from kinetoscope.artifacts.weights import read_weights
from kinetoscope.inference.bundle import Bundle, BundleSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from kinetoscope.data.clip_table import ClipTable
    from kinetoscope.data.latents.format import LatentIndex
    from kinetoscope.inference.config import GenerationConfig
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
    index = open_latent_index(inputs["latents"])
    vae = read_weights(inputs["vae"])
    # The transformer was trained on (z - index.shift) / index.scale of the latents that the
    # autoencoder gives: one shift and scale for both are the autoencoder's from here on.
    for name, values in _composed(vae, index).items():
        vae[name] = values.reshape(vae[name].shape)
    measured = {name: _flat(vae[name]) for name in ("shift", "scale")}
    artifacts = {"clips": "clips", "vae": "checkpoint", "latents": "latents", "dit": "checkpoint"}
    spec = BundleSpec(
        vae=config.vae.model_copy(update=measured),
        dit=config.dit,
        text_encoder=config.text_encoder,
        flow=config.flow,
        sampler=config.sampler,
        size=config.sample_size,
        fps=config.sample_fps or usual_fps(table),
        scores=typical_scores(table, config.conditioning),
        clean_captions=config.clean_captions,
        lineage={name: inputs[name].artifact(key).digest for name, key in artifacts.items()},
    )
    return Bundle(spec, vae, read_weights(inputs["dit"], averaged=True))


def typical_scores(table: ClipTable, names: tuple[str, ...]) -> dict[str, float]:
    """Return the median score of the training clips, which conditions a prompt by default."""
    train = table.split("train")
    measured = {name: train.scores[name] for name in names}
    known = {name: values[~np.isnan(values)] for name, values in measured.items()}
    return {name: float(np.median(values)) for name, values in known.items() if len(values)}


def usual_fps(table: ClipTable) -> float:
    """Return the frame rate that most training clips have; of equals, the highest."""
    rates: Counter[float] = Counter(table.split("train").fps.tolist())
    return max(rates, key=lambda rate: (rates[rate], rate))


def _flat(tensor: Tensor) -> tuple[float, ...]:
    return tuple(tensor.flatten().tolist())


def _composed(vae: Mapping[str, Tensor], index: LatentIndex) -> dict[str, Tensor]:
    shift, scale = vae["shift"].flatten(), vae["scale"].flatten()
    return {
        "shift": shift + scale * shift.new_tensor(index.shift),
        "scale": scale * scale.new_tensor(index.scale),
    }
