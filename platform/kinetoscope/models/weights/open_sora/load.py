"""Loading others' weights into our models: Open-Sora 1.2, PixArt-Sigma, diffusers' spatial VAEs.

Loading is strict: names and shapes must agree unless the caller allows a difference. Weights may be
any mapping of tensors by name; with `tensor_files.open_weights` a model is loaded tensor by tensor
and needs memory for itself alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.layers.attention import RotaryEmbedding
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.tensor_files import LazyWeights
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.vae.spatial import SpatialVAE
from kinetoscope.models.vae.temporal import TemporalVAE
from kinetoscope.models.weights.load import load_model, load_weights
from kinetoscope.models.weights.open_sora.config import (
    spatial_vae_config_from_diffusers,
    temporal_vae_config_from_open_sora,
    transformer_config_from_open_sora,
    video_vae_config_from_open_sora,
)
from kinetoscope.models.weights.open_sora.layouts import (
    from_diffusers_vae,
    from_pixart,
    is_pixart,
    new_beside_pixart,
    spatial_part,
    temporal_part,
    unwrapped,
    with_normalization,
)
from kinetoscope.models.weights.report import Difference, LoadReport

Layout = Literal["auto", "stdit", "pixart"]


def load_open_sora_transformer(
    state_dict: Mapping[str, Tensor],
    config: STDiTConfig | Mapping[str, Any],
    *,
    allow: Collection[Difference] = (),
) -> STDiT:
    """Return a transformer with the weights of a reference ``STDiT3``.

    Args:
        state_dict: by the reference's names; a prefix ``module.`` on all of them is dropped.
        config: ours, or the reference's (see `transformer_config_from_open_sora`).
        allow: differences that let the load pass; what is not loaded keeps its initial value.

    Raises:
        ConfigError: weights and config do not agree, or the config is not supported.
    """
    ours = config if isinstance(config, STDiTConfig) else transformer_config_from_open_sora(config)
    return load_model(lambda: STDiT(ours), _with_rope(unwrapped(state_dict), ours), allow)


def load_open_sora_vae(
    state_dict: Mapping[str, Tensor],
    config: VideoVAEConfig | Mapping[str, Any],
    *,
    allow: Collection[Difference] = (),
) -> VideoVAE:
    """Return a video VAE with the weights of a reference ``OpenSoraVAE_V1_2``.

    ``shift`` and ``scale`` of the weights replace the config's.

    Args:
        state_dict: by the reference's names; old names in the spatial VAE are understood.
        config: ours, or the reference's (see `video_vae_config_from_open_sora`).
        allow: as in `load_open_sora_transformer`.

    Raises:
        ConfigError: weights and config do not agree, or the config is not supported.
    """
    ours = config if isinstance(config, VideoVAEConfig) else video_vae_config_from_open_sora(config)
    weights = from_diffusers_vae(state_dict)
    ours = with_normalization(ours, weights)
    normalization = {
        name: torch.tensor(values).reshape(1, -1, 1, 1, 1)
        for name, values in (("shift", ours.shift), ("scale", ours.scale))
    }
    return load_model(lambda: VideoVAE(ours), weights.with_tensors(normalization), allow)


def load_temporal_vae(
    state_dict: Mapping[str, Tensor],
    config: TemporalVAEConfig | Mapping[str, Any],
    *,
    allow: Collection[Difference] = (),
) -> TemporalVAE:
    """Return a temporal VAE with the weights of a reference ``VAE_Temporal``.

    Args:
        state_dict: its own, or a whole video VAE's, of which the temporal part is taken.
        config: ours, or the reference's (see `temporal_vae_config_from_open_sora`).
        allow: as in `load_open_sora_transformer`.

    Raises:
        ConfigError: weights and config do not agree, or the config is not supported.
    """
    ours = (
        config
        if isinstance(config, TemporalVAEConfig)
        else temporal_vae_config_from_open_sora(config)
    )
    return load_model(lambda: TemporalVAE(ours), temporal_part(state_dict), allow)


def load_spatial_vae(
    state_dict: Mapping[str, Tensor],
    config: SpatialVAEConfig | Mapping[str, Any],
    *,
    allow: Collection[Difference] = (),
) -> SpatialVAE:
    """Return a spatial VAE with the weights of a diffusers ``AutoencoderKL``, such as SDXL's.

    Args:
        state_dict: its own, under present or old names, or a whole video VAE's.
        config: ours, or diffusers' (see `spatial_vae_config_from_diffusers`).
        allow: as in `load_open_sora_transformer`.

    Raises:
        ConfigError: weights and config do not agree, or the config is not supported.
    """
    ours = (
        config
        if isinstance(config, SpatialVAEConfig)
        else spatial_vae_config_from_diffusers(config)
    )
    return load_model(lambda: SpatialVAE(ours), spatial_part(state_dict), allow)


def load_transformer_weights(
    model: STDiT,
    weights: Mapping[str, Tensor],
    *,
    layout: Layout = "auto",
    allow: Collection[Difference] = (),
) -> LoadReport:
    """Load STDiT's or PixArt's weights into an initialised transformer.

    PixArt's weights become the spatial half; the report's ``new`` names what they have no place
    for (temporal blocks, frame rate, query and key norms), which keeps its initial value.

    Args:
        model: takes the weights; untouched when they do not fit.
        weights: in either layout.
        layout: ``auto`` tells them apart by their names.
        allow: as in `load_open_sora_transformer`.

    Raises:
        ConfigError: the weights do not fit.
    """
    found = is_pixart(weights)
    if layout == "pixart" and not found:
        raise ConfigError(
            "these are not PixArt's weights: they have no image blocks named 'blocks'",
            hint="give PixArt's own file (.pth), not the one for diffusers",
        )
    if found and layout != "stdit":
        converted = from_pixart(weights, model.config.max_text_tokens)
        return load_weights(model, converted, allow=allow, is_new=new_beside_pixart)
    return load_weights(model, _with_rope(unwrapped(weights), model.config), allow=allow)


def _with_rope(weights: LazyWeights, config: STDiTConfig) -> LazyWeights:
    """Add the rotary frequencies, which the config determines, where the weights leave them out."""
    if "rope.freqs" in weights:
        return weights
    rope = RotaryEmbedding(config.width // config.num_heads)
    rope.reset_parameters()
    return weights.with_tensors({"rope.freqs": rope.freqs.detach()})
