"""Family ``keys``: names, shapes and counts of full-size models, and what is zero at the start.

Models are built on ``meta``: nothing of their size is allocated. A file says how it was made either
with ``config`` (any of the reference's model configs) or with ``vae_2d_config`` and
``vae_temporal``, the latter a config or a line like ``VAE_Temporal_SD: filters 128, ...``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.models.vae.temporal import TemporalVAE
from kinetoscope.models.weights.open_sora.config import (
    spatial_vae_config_from_diffusers,
    temporal_vae_config_from_open_sora,
    transformer_config_from_open_sora,
    video_vae_config_from_open_sora,
)
from kinetoscope.parity.compare import CaseResult, exact_cases, failed
from kinetoscope.parity.golden import GoldenFile

_DESCRIBES = {"config", "kind", "model", "notes", "vae_2d_config", "vae_temporal", "versions"}
_FRESH = re.compile(
    r"(zero_initialised_weights|zero_initialised_biases|bias_not_zero_initialised)_depth(\d+)"
)
_SHORT_NAMES = {"in_out": "in_out_channels", "latent": "latent_embed_dim", "embed": "embed_dim"}
# The released model's factory fixes them; of other models they are the file's to say.
_FACTORY, _FACTORY_FIXES = "OpenSoraVAE_V1_2", ("shift", "scale")

Model = STDiT | VideoVAE | TemporalVAE | SpatialVAE


def check_keys(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare each field of the file that states something of the model, one case a field.

    Order matters in none of them. ``non_persistent_buffers`` of the reference, which we compute
    where they are used, must not be in our state dict.
    """
    data = golden.data
    with torch.device("meta"):
        model = _build(data)
    facts = _facts(model, data)
    fields = [name for name in data if name not in _DESCRIBES]
    known = [(name, facts[name], _sorted(data[name])) for name in fields if name in facts]
    yield from exact_cases(known)
    for name in fields:
        if name not in facts:
            yield failed(name, "not understood: no such fact of this model is known")


def _build(data: Mapping[str, Any]) -> Model:
    config = data.get("config")
    if "vae_2d_config" in data:
        return VideoVAE(video_vae_config_from_open_sora(_pipeline(data)))
    if not isinstance(config, Mapping):
        raise ValueError("the file has neither config nor vae_2d_config")
    if "vae_2d" in config:
        return VideoVAE(video_vae_config_from_open_sora(config))
    if "block_out_channels" in config:
        return SpatialVAE(spatial_vae_config_from_diffusers(config))
    if "channel_multipliers" in config:
        return TemporalVAE(temporal_vae_config_from_open_sora(config))
    return STDiT(transformer_config_from_open_sora(config))


def _pipeline(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reference's pipeline config of the file's fields."""
    temporal = data.get("vae_temporal", {})
    defaults = VideoVAEConfig()
    config = {
        "vae_2d": data["vae_2d_config"],
        "vae_temporal": temporal if isinstance(temporal, Mapping) else _parse(str(temporal)),
        "micro_frame_size": data.get("micro_frame_size", defaults.chunk_frames),
    }
    by_factory = str(data.get("model", _FACTORY)).startswith(_FACTORY)
    for name in _FACTORY_FIXES:
        own = getattr(defaults, name)
        config[name] = own if by_factory else data.get(name, own)
    return config


def _parse(described: str) -> dict[str, Any]:
    """Return the config that a line like ``NAME: filters 128, sizes (1, 2)`` describes."""
    kind, _, settings = described.partition(":")
    parsed: dict[str, Any] = {"type": kind.strip()}
    for setting in re.split(r",\s*(?![^(]*\))", settings.strip()):
        name, _, value = setting.partition(" ")
        if name:
            parsed[_SHORT_NAMES.get(name, name)] = ast.literal_eval(value)
    return parsed


def _facts(model: Model, data: Mapping[str, Any]) -> dict[str, Callable[[], object]]:
    """Return what we know of a model, by the reference's name of it."""
    state = model.state_dict()
    parameters = dict(model.named_parameters())
    facts: dict[str, Callable[[], object]] = {
        "keys": lambda: {name: list(tensor.shape) for name, tensor in state.items()},
        "num_keys": lambda: len(state),
        "total_state_dict_numel": lambda: sum(tensor.numel() for tensor in state.values()),
        "total_parameters": lambda: _count(parameters.values()),
        "trainable_parameters": lambda: _count(p for p in parameters.values() if p.requires_grad),
        "parameters_without_grad": lambda: _sorted(
            [name for name, p in parameters.items() if not p.requires_grad]
        ),
        "buffers_in_state_dict": lambda: _sorted(
            [name for name in state if name not in parameters]
        ),
        "non_persistent_buffers": lambda: _sorted(
            [name for name in data["non_persistent_buffers"] if name not in state]
        ),
    }
    if isinstance(model, VideoVAE):
        facts |= _pipeline_facts(model)
    if isinstance(model, STDiT):
        for name in data:
            if match := _FRESH.fullmatch(name):
                facts[name] = _fresh_fact(model.config, match[1], int(match[2]))
    return facts


def _pipeline_facts(model: VideoVAE) -> dict[str, Callable[[], object]]:
    config = model.config
    frames = config.chunk_frames
    return {
        "spatial_vae_parameters": lambda: _count(model.spatial_vae.parameters()),
        "temporal_vae_parameters": lambda: _count(model.temporal_vae.parameters()),
        "micro_frame_size": lambda: frames,
        "micro_z_frame_size": lambda: frames and model.temporal_vae.latent_frames(frames),
        "micro_batch_size_default": lambda: VideoVAEConfig().spatial_micro_batch,
        "shift": lambda: _small(config).shift.flatten().tolist(),
        "scale": lambda: _small(config).scale.flatten().tolist(),
    }


def _small(config: VideoVAEConfig) -> VideoVAE:
    """Return a video VAE of the same normalisation that takes no time to build."""
    channels = config.temporal.latent_channels
    return VideoVAE(
        VideoVAEConfig(
            spatial=SpatialVAEConfig(
                block_widths=(1,), norm_groups=1, latent_channels=channels, layers_per_block=1
            ),
            temporal=TemporalVAEConfig(
                base_width=1,
                multipliers=(1,),
                num_res_blocks=1,
                temporal_downsample=(),
                norm_groups=1,
                latent_channels=channels,
            ),
            shift=config.shift,
            scale=config.scale,
        )
    )


def _fresh_fact(config: STDiTConfig, fact: str, depth: int) -> Callable[[], object]:
    """Return which parameters of a fresh model are zero; which ones does not depend on widths."""

    def names() -> object:
        sizes = {"depth": depth, "width": 8, "num_heads": 1, "text_width": 8}
        model = STDiT(config.model_copy(update=sizes))
        biases = fact != "zero_initialised_weights"
        zero = not fact.startswith("bias_not")
        return _sorted(
            [
                name
                for name, p in model.named_parameters()
                if name.endswith(".bias") == biases and (not p.any()) == zero
            ]
        )

    return names


def _count(parameters: Iterator[nn.Parameter] | Any) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _sorted(value: object) -> object:
    """Sort a list of names; leave anything else as it is."""
    named = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return sorted(value) if named else value  # type: ignore[call-overload]  # a list of str
