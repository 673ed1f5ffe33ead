"""Open-Sora 1.2's configs of our models: what ``config.json`` of an exported model holds."""

from __future__ import annotations

from typing import Any

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.config import TransformerConfig, VideoAutoencoderConfig
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.models.weights.open_sora.keys import (
    ACTIVATIONS,
    EXTENSION_FIELDS,
    EXTENSIONS,
    SCALING_FACTOR,
    SPATIAL_FIELDS,
    STDIT_FIELDS,
    TEMPORAL_FIELDS,
)


def open_sora_transformer_config(config: TransformerConfig) -> dict[str, Any]:
    """Return the reference's config of one of ours; undoes `transformer_config_from_open_sora`.

    Raises:
        ConfigError: the model has parts that the reference lacks.
    """
    if not isinstance(config, STDiTConfig):
        raise ConfigError(
            f"a transformer of the kind {config.kind!r} can't be exported: the reference has STDiT3"
        )
    if config.temporal_position != "rope":
        raise ConfigError(
            f"temporal_position={config.temporal_position!r} can't be exported: the reference's "
            "STDiT3 knows 'rope' alone and would give other videos with these weights",
            hint="train with temporal_position: rope",
        )
    ours = config.to_json()
    theirs = {key: ours[field] for key, field in STDIT_FIELDS.items()}
    return {
        "model_type": "STDiT3",
        "architectures": ["STDiT3"],
        **theirs,
        "input_size": [None, None, None],
        "drop_path": 0.0,
        "only_train_temporal": config.trainable == "temporal",
        EXTENSIONS: {name: ours[name] for name in EXTENSION_FIELDS},
    }


def open_sora_vae_config(config: VideoAutoencoderConfig) -> dict[str, Any]:
    """Return the reference's config of one of ours; undoes `video_vae_config_from_open_sora`.

    Sizes that the reference has under a name of its own (SDXL's spatial VAE, ``VAE_Temporal_SD``)
    are written by that name, as in the released file.

    Raises:
        ConfigError: the model has parts that the reference lacks.
    """
    if not isinstance(config, VideoVAEConfig):
        raise ConfigError(
            f"an autoencoder of the kind {config.kind!r} can't be exported to the reference"
        )
    if config.spatial.scaling_factor != SCALING_FACTOR:
        raise ConfigError(
            f"scaling_factor={config.spatial.scaling_factor} can't be exported: the reference "
            f"scales frame latents by {SCALING_FACTOR} always"
        )
    spatial: dict[str, Any] = {
        "type": "VideoAutoencoderKL",
        "from_pretrained": "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
        "subfolder": "vae",
        "micro_batch_size": config.spatial_micro_batch,
    }
    if config.spatial != SpatialVAEConfig():
        spatial |= diffusers_vae_config(config.spatial)
    temporal: dict[str, Any] = {"type": "VAE_Temporal_SD", "from_pretrained": None}
    if config.temporal != TemporalVAEConfig():
        temporal = {"type": "VAE_Temporal", **_temporal_config(config.temporal)}
    return {
        "model_type": "VideoAutoencoderPipeline",
        "architectures": ["VideoAutoencoderPipeline"],
        "vae_2d": spatial,
        "vae_temporal": temporal,
        "from_pretrained": None,
        "freeze_vae_2d": False,
        "cal_loss": False,
        "micro_frame_size": config.chunk_frames,
        "shift": list(config.shift),
        "scale": list(config.scale),
    }


def diffusers_vae_config(config: SpatialVAEConfig) -> dict[str, Any]:
    """Return diffusers' ``AutoencoderKL`` config of one of ours."""
    levels = len(config.block_widths)
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "act_fn": "silu",
        "scaling_factor": config.scaling_factor,
        **{key: config.to_json()[field] for key, field in SPATIAL_FIELDS.items()},
    }


def _temporal_config(config: TemporalVAEConfig) -> dict[str, Any]:
    ours = config.to_json()
    names = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    return {
        "in_out_channels": config.in_channels,
        "latent_embed_dim": config.inner_channels,
        "embed_dim": config.latent_channels,
        **{key: ours[field] for key, field in TEMPORAL_FIELDS.items()},
        "activation_fn": names[config.activation],
    }
