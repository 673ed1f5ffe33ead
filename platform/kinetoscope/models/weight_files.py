"""Reading tensors from weight files that others have made."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kinetoscope.core.errors import ConfigError, NotFoundError

_FIRST_SAFE_TORCH = (2, 6)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a safetensors file or a torch file (``.pt``, ``.pth``, ``.bin``).

    Torch files are pickles: they are opened with ``weights_only`` and on torch >= 2.6 alone, since
    before that the restriction could be broken out of (CVE-2025-32434).

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is not a flat table of tensors, or this torch must not open it.
    """
    if not path.is_file():
        raise NotFoundError(f"no weight file at {path}", hint="give the path of a local file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch_file(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ConfigError(f"{path} is not a safetensors file: {error}") from error


def _read_torch_file(path: Path) -> dict[str, Tensor]:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _FIRST_SAFE_TORCH:
        raise ConfigError(
            f"{path} is a torch file, which torch {torch.__version__} can't open safely",
            hint="convert it to safetensors, or use torch >= 2.6",
        )
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ConfigError(
            f"{path} holds more than tensors or is damaged; it was not opened",
            hint="convert it to safetensors where you trust it",
        ) from error
    if not isinstance(value, dict) or not all(isinstance(v, Tensor) for v in value.values()):
        raise ConfigError(f"{path} does not hold a flat table of tensors")
    return value
