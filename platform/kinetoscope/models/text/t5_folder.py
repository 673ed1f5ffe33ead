"""The folder of a T5 encoder, looked at without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.weight_files import check_weights

MODEL_FILES_HINT = (
    "save the encoder there with transformers' save_pretrained (config, tokenizer, safetensors), "
    "or give another folder"
)
_TOKENIZERS = ("tokenizer.json", "spiece.model")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def check_t5_folder(folder: Path, width: int) -> None:
    """Refuse a folder that has no T5 encoder of this width.

    Raises:
        ConfigError: naming what is missing or other than the config says.
        NotFoundError: a file of weights is missing.
        OSError: it can't be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder", hint=MODEL_FILES_HINT)
    given = _config(folder).get("d_model")
    if given != width:
        raise ConfigError(
            f"text encoder width={width}, but T5 in {folder} has {given}",
            hint=f"set width to {given}",
        )
    _first(folder, _TOKENIZERS, "tokenizer")
    check_weights(_first(folder, _WEIGHTS, "safetensors weights"))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"no T5 encoder in {folder}: no config.json", hint=MODEL_FILES_HINT)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or "d_model" not in value:
        raise ConfigError(f"{path} is no config of a T5 encoder: it has no d_model")
    return value


def _first(folder: Path, names: tuple[str, ...], what: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"no T5 encoder in {folder}: no {what} ({' or '.join(names)})", hint=MODEL_FILES_HINT
    )
