"""How a batch comes to the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kinetoscope.data.video.pixels import pixels_of


def sent(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return a batch on the device, as it is; nothing is waited for."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}


def pixels_in(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return a batch's ``pixels``, floats ``B C T H W`` in [-1, 1].

    They are made anew of uint8 levels ``B T H W C`` where the batch has these: it is kept until the
    step's end, and floats, four times as large, would be kept with it. Floats are taken as pixels.
    """
    pixels = tensors["pixels"]
    return pixels_of(pixels) if pixels.dtype is torch.uint8 else pixels
