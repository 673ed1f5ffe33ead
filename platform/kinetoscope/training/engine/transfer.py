"""How a batch comes to the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kinetoscope.data.video.pixels import pixels_of


def sent(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return a batch on the device, where levels of pixels become pixels; nothing is waited for.

    Args:
        tensors: a uint8 one has levels ``B T H W C``, which become floats ``B C T H W`` in [-1, 1].
        device: of the model.
    """
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    return {
        name: pixels_of(tensor) if tensor.dtype is torch.uint8 else tensor
        for name, tensor in moved.items()
    }
