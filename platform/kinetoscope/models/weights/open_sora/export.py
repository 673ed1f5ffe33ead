"""Writing models in Open-Sora 1.2's released layout: ``config.json`` and safetensors weights.

    config.json                            the reference's config
    model.safetensors                      the weights, or, where they are larger than a shard:
    model-00001-of-00003.safetensors ...   shards
    model.safetensors.index.json           which shard holds which tensor

The reference loads such a folder with ``from_pretrained``; so do `load_open_sora_transformer` and
`load_open_sora_vae` with `tensor_files.open_weights`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from kinetoscope.core.errors import ConfigError, StorageError
from kinetoscope.core.units import GIB
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.weights.open_sora.export_config import (
    open_sora_transformer_config,
    open_sora_vae_config,
)
from kinetoscope.models.weights.open_sora.layouts import with_normalization

CONFIG_NAME = "config.json"
SHARD_BYTES = 5 * GIB

_NAME = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_METADATA = {"format": "pt"}
"""Without it transformers refuses to read the file."""


def export_open_sora_transformer(
    model: STDiT, folder: Path, *, max_shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write a transformer as the reference's ``STDiT3``.

    Args:
        model: in the dtype that the files shall have.
        folder: made if need be; it must be empty.
        max_shard_bytes: larger models are cut into shards of at most this size (a single tensor
            may be larger).

    Returns:
        The files that were written.

    Raises:
        ConfigError: the reference can't represent the model, or the folder holds something.
        StorageError: writing failed.
    """
    config = open_sora_transformer_config(model.config)
    return _write(folder, config, model.state_dict(), max_shard_bytes)


def export_open_sora_vae(
    model: VideoVAE, folder: Path, *, max_shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write a video VAE as the reference's ``OpenSoraVAE_V1_2``, likewise."""
    state = model.state_dict()
    config = open_sora_vae_config(with_normalization(model.config, state))
    return _write(folder, config, state, max_shard_bytes)


def _write(
    folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], max_shard_bytes: int
) -> list[Path]:
    if max_shard_bytes < 1:
        raise ConfigError(f"max_shard_bytes={max_shard_bytes} must be positive")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty", hint="give a new folder")
        written = _write_weights(folder, _shards(state, max_shard_bytes), state)
        # Last: a folder with a config is complete.
        return [*written, _write_json(folder / CONFIG_NAME, config)]
    except (OSError, SafetensorError) as error:
        raise StorageError(f"can't write the model to {folder}: {error}") from error


def _write_weights(
    folder: Path, shards: list[list[str]], state: Mapping[str, Tensor]
) -> list[Path]:
    if len(shards) == 1:
        names = [_NAME]
    else:
        count = len(shards)
        names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    for name, tensors in zip(names, shards, strict=True):
        # Contiguous copies of a shard at a time: the VAEs keep theirs in channels-last order.
        save_file({key: state[key].contiguous().cpu() for key in tensors}, folder / name, _METADATA)
    written = [folder / name for name in names]
    if len(shards) > 1:
        weight_map = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
        size = sum(tensor.nbytes for tensor in state.values())
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        written.append(_write_json(folder / _INDEX, index))
    return written


def _shards(state: Mapping[str, Tensor], max_bytes: int) -> list[list[str]]:
    """Return the names of each shard's tensors, in the model's order."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, tensor in state.items():
        if shards[-1] and used + tensor.nbytes > max_bytes:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += tensor.nbytes
    return shards


def _write_json(path: Path, value: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return path
