"""Bundles from and to models in Open-Sora 1.2's released layout.

    dit/               transformer : config.json and weights
    vae/               OpenSoraVAE_V1_2: config.json and weights
    generation.json    what the reference's folders have no place for: text encoder, sampler, sizes

Released folders have no ``generation.json``; the caller gives those values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kinetoscope.core.config_model import Config
from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.inference.bundle import Bundle, BundleSpec
from kinetoscope.inference.config import ClipSize
from kinetoscope.models.tensor_files import open_weights
from kinetoscope.models.text.config import T5Config, TextEncoderConfig
from kinetoscope.models.vae.config import VideoVAEConfig
from kinetoscope.models.weights.open_sora.config import transformer_config_from_open_sora
from kinetoscope.models.weights.open_sora.export import (
    CONFIG_NAME,
    SHARD_BYTES,
    export_open_sora_transformer,
    export_open_sora_vae,
)
from kinetoscope.models.weights.open_sora.export_config import (
    open_sora_transformer_config,
    open_sora_vae_config,
)
from kinetoscope.models.weights.open_sora.keys import EXTENSIONS
from kinetoscope.models.weights.open_sora.load import load_open_sora_transformer, load_open_sora_vae

if TYPE_CHECKING:
    from pathlib import Path

DIT_FOLDER = "dit"
VAE_FOLDER = "vae"
GENERATION = "generation.json"
LAYOUT = "open-sora-1.2"


class Generation(Config):
    """How clips are generated with a model; the defaults are the reference's."""

    text_encoder: TextEncoderConfig
    flow: RectifiedFlowConfig = RectifiedFlowConfig()
    sampler: SamplerConfig = SamplerConfig()
    size: ClipSize = ClipSize(num_frames=51, height=240, width=424)
    """240p at 9:16: the reference's 426 columns have latents for 424."""
    fps: float = 24.0
    scores: dict[str, float] = {"aesthetic": 6.5}
    clean_captions: bool = True


def t5_generation(dit: Path, text_encoder: Path) -> Generation:
    """Return the reference's way of generating.

    Args:
        dit: folder of the transformer, whose config says what text it takes.
        text_encoder: folder of T5 in transformers' layout.

    Raises:
        NotFoundError: there is no text encoder.
        ConfigError: the text encoder is of another width than the transformer.
    """
    config = text_encoder / "config.json"
    if not config.is_file():
        raise NotFoundError(
            f"no text encoder at {text_encoder}: it has no config.json",
            hint="give a folder with T5 in transformers' layout",
        )
    model = transformer_config_from_open_sora(_reference_config(dit))
    width = _read_json(config).get("d_model")
    if width != model.text_width:
        raise ConfigError(
            f"the text encoder at {text_encoder} is {width} wide, the transformer takes "
            f"{model.text_width}"
        )
    path = str(text_encoder.resolve())
    encoder = T5Config(path=path, width=model.text_width, max_tokens=model.max_text_tokens)
    return Generation(text_encoder=encoder)


def read_generation(path: Path) -> Generation:
    """Read an exported model's ``generation.json``.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it does not say how to generate.
    """
    try:
        return Generation.model_validate(_read_json(path))
    except ValidationError as error:
        raise ConfigError(f"{path} does not say how to generate: {error}") from error


def import_bundle(dit: Path, vae: Path, generation: Generation) -> Bundle:
    """Return a bundle of models in the released layout.

    Args:
        dit: folder or weight file of the transformer; without a ``config.json`` it is XL/2.
        vae: folder or weight file of the video VAE; without a ``config.json`` it is the released
            one's.
        generation: how clips are generated.

    Raises:
        NotFoundError: there are no weights.
        ConfigError: files are damaged, or weights and configs do not agree.
    """
    transformer = load_open_sora_transformer(open_weights(dit), _reference_config(dit))
    vae_config = _config_beside(vae)
    autoencoder = load_open_sora_vae(
        open_weights(vae), VideoVAEConfig() if vae_config is None else vae_config
    )
    spec = BundleSpec(
        vae=autoencoder.config,
        dit=transformer.config,
        lineage={"imported": LAYOUT},
        **{name: getattr(generation, name) for name in Generation.model_fields},
    )
    return Bundle(spec, autoencoder.state_dict(), transformer.state_dict())


def export_bundle(
    bundle: Bundle, folder: Path, *, max_shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write a bundle's models in the released layout.

    Args:
        bundle: whose transformer the reference can represent.
        folder: made if need be; its parts must be empty.
        max_shard_bytes: see `export_open_sora_transformer`.

    Returns:
        The files that were written.

    Raises:
        ConfigError: the reference can't represent the model, or the folder holds something.
        StorageError: writing failed.
    """
    # Both are checked before anything is written.
    transformer_config = open_sora_transformer_config(bundle.spec.dit)
    vae_config = open_sora_vae_config(bundle.spec.vae)
    transformer = load_open_sora_transformer(bundle.dit, transformer_config)
    autoencoder = load_open_sora_vae(bundle.vae, vae_config)
    size = max_shard_bytes
    written = export_open_sora_transformer(transformer, folder / DIT_FOLDER, max_shard_bytes=size)
    written += export_open_sora_vae(autoencoder, folder / VAE_FOLDER, max_shard_bytes=size)
    values = {name: getattr(bundle.spec, name) for name in Generation.model_fields}
    generation = folder / GENERATION
    generation.write_text(json.dumps(Generation(**values).to_json(), indent=2) + "\n", "utf-8")
    return [*written, generation]


def _reference_config(dit: Path) -> dict[str, Any]:
    given = _config_beside(dit) or {}
    # Without our extensions these are weights that the reference trained, in bfloat16.
    rounding = {} if EXTENSIONS in given else {EXTENSIONS: {"rounding": "bfloat16"}}
    return {**given, **rounding}


def _config_beside(weights: Path) -> dict[str, Any] | None:
    """Return the config in the weights' folder, or None."""
    folder = weights if weights.is_dir() else weights.parent
    path = folder / CONFIG_NAME
    return _read_json(path) if path.is_file() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is no table of keys")
    return value
