"""Our configs of Open-Sora 1.2's own (``config.json``, or what its classes take).

Keys that say nothing of the result are skipped (`open_sora.keys`). Any other unknown key is an
error: it could mean something that we don't do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from kinetoscope.core.config_model import Config
from kinetoscope.core.errors import ConfigError
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.models.weights.open_sora.keys import (
    ACTIVATIONS,
    EXTENSION_FIELDS,
    EXTENSIONS,
    PIPELINE_SKIPPED,
    SPATIAL_FIELDS,
    SPATIAL_FIXED,
    SPATIAL_SKIPPED,
    STDIT_FIELDS,
    STDIT_SKIPPED,
    TEMPORAL_FIELDS,
    TEMPORAL_SKIPPED,
    WRITTEN_BY_TOOLS,
)

C = TypeVar("C", bound=Config)


def transformer_config_from_open_sora(config: Mapping[str, Any]) -> STDiTConfig:
    """Return our config of a reference STDiT3 config.

    Args:
        config: what ``STDiT3Config`` takes; keys left out have its defaults, those of XL/2.

    Raises:
        ConfigError: a key is unknown, or its value asks for something that we don't do.
    """
    config = _inner(config, "model")
    where = "STDiT3 config"
    extensions = config.get(EXTENSIONS, {})
    _check_keys(
        where,
        config,
        {*STDIT_FIELDS, *STDIT_SKIPPED, "drop_path", "only_train_temporal", EXTENSIONS},
    )
    _check_keys(f"{where}, {EXTENSIONS}", extensions, set(EXTENSION_FIELDS))
    _check_fixed(where, config, {"drop_path": 0.0})
    fields = {ours: config[theirs] for theirs, ours in STDIT_FIELDS.items() if theirs in config}
    if config.get("only_train_temporal"):
        fields["trainable"] = "temporal"
    return _validated(STDiTConfig, where, {**fields, **extensions})


def spatial_vae_config_from_diffusers(config: Mapping[str, Any]) -> SpatialVAEConfig:
    """Return our config of a diffusers ``AutoencoderKL`` config, or of Open-Sora's ``vae_2d``.

    ``scaling_factor`` is not taken over: Open-Sora multiplies by 0.18215 whatever the VAE says.

    Args:
        config: keys left out have SDXL's values (the released ``vae_2d`` names its folder alone).

    Raises:
        ConfigError: a key is unknown, or its value asks for something that we don't do.
    """
    where = "spatial VAE config"
    blocks = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
    _check_keys(where, config, {*SPATIAL_FIELDS, *SPATIAL_SKIPPED, *SPATIAL_FIXED, *blocks})
    _check_fixed(where, config, SPATIAL_FIXED)
    fields = {ours: config[theirs] for theirs, ours in SPATIAL_FIELDS.items() if theirs in config}
    spatial = _validated(SpatialVAEConfig, where, fields)
    levels = len(spatial.block_widths)
    _check_fixed(where, config, {key: [kind] * levels for key, kind in blocks.items()})
    return spatial


def temporal_vae_config_from_open_sora(config: Mapping[str, Any]) -> TemporalVAEConfig:
    """Return our config of a reference temporal VAE config.

    Args:
        config: what ``VAE_Temporal`` takes; keys left out are those of ``VAE_Temporal_SD``, the
            released one, unless ``type`` is ``VAE_Temporal``.

    Raises:
        ConfigError: a key is unknown, or its value asks for something that we don't do.
    """
    config = _inner(config, "model")
    where = "temporal VAE config"
    channels = {"in_out_channels", "latent_embed_dim", "embed_dim", "activation_fn"}
    _check_keys(where, config, {*TEMPORAL_FIELDS, *TEMPORAL_SKIPPED, *channels})
    fields = {ours: config[theirs] for theirs, ours in TEMPORAL_FIELDS.items() if theirs in config}
    if config.get("type") == "VAE_Temporal":
        fields.setdefault("temporal_downsample", (True, True, False))
    latent = config.get("embed_dim", 4)
    frame, hidden = (config.get(key, 4) for key in ("in_out_channels", "latent_embed_dim"))
    activation = config.get("activation_fn", "swish")
    fields |= {
        "latent_channels": latent,
        "frame_channels": None if frame == latent else frame,
        "hidden_channels": None if hidden == latent else hidden,
        "activation": ACTIVATIONS.get(activation, activation),
    }
    return _validated(TemporalVAEConfig, where, fields)


def video_vae_config_from_open_sora(config: Mapping[str, Any]) -> VideoVAEConfig:
    """Return our config of a reference ``VideoAutoencoderPipeline`` config.

    Args:
        config: ``vae_2d``, ``vae_temporal`` and, beside them or under ``pipeline``,
            ``micro_frame_size``, ``shift`` and ``scale`` (numbers or one per channel; the
            reference's defaults: none, 0 and 1). ``micro_batch_size`` stands in ``vae_2d`` or
            beside it.

    Raises:
        ConfigError: a key is unknown, or its value asks for something that we don't do.
    """
    where = "video VAE config"
    flat = {**config, **config.get("pipeline", {})}
    flat.pop("pipeline", None)
    parts = {"vae_2d", "vae_temporal"}
    known = {*parts, *PIPELINE_SKIPPED, "micro_batch_size", "micro_frame_size", "shift", "scale"}
    _check_keys(where, flat, known)
    missing = sorted(name for name in parts if not isinstance(flat.get(name), Mapping))
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} must be there, with its own keys")
    spatial = spatial_vae_config_from_diffusers(flat["vae_2d"])
    micro_batch = flat.get("micro_batch_size", flat["vae_2d"].get("micro_batch_size", 4))
    temporal = temporal_vae_config_from_open_sora(flat["vae_temporal"])
    fields = {
        "spatial": spatial,
        "temporal": temporal,
        "chunk_frames": flat.get("micro_frame_size"),
        "spatial_micro_batch": micro_batch,
        "shift": _per_channel(flat.get("shift", 0.0), temporal.latent_channels),
        "scale": _per_channel(flat.get("scale", 1.0), temporal.latent_channels),
    }
    return _validated(VideoVAEConfig, where, fields)


def _inner(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return what a golden file's config has under a key, or the config itself."""
    inner = config.get(key)
    return inner if isinstance(inner, Mapping) else config


def _check_keys(where: str, config: object, known: set[str]) -> None:
    if not isinstance(config, Mapping):
        raise ConfigError(f"{where}: a table of keys is needed, not {config!r}")
    unknown = sorted(str(key) for key in config if key not in known | WRITTEN_BY_TOOLS)
    if unknown:
        raise ConfigError(
            f"{where}: unknown keys {', '.join(unknown)}", hint=f"known: {', '.join(sorted(known))}"
        )


def _check_fixed(where: str, config: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    for key, only in fixed.items():
        given = config.get(key)
        value = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else given
        if key in config and value != only:
            raise ConfigError(f"{where}: {key}={given!r} is not supported, only {only!r}")


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,) * channels


def _validated(kind: type[C], where: str, fields: Mapping[str, Any]) -> C:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {place or 'value'}: {first['msg']}") from error
