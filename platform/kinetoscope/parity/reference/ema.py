"""Averaged weights as Open-Sora 1.2 keeps them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinetoscope.core.errors import CorruptError
from kinetoscope.training.loop.ema import EMA

_NEVER_AVERAGED = "pos_embed"


class ReferenceEMA(EMA):
    """Averages like `EMA`, but for a parameter that is called ``pos_embed``.

    That, frozen parameters and buffers are exported as they were at the start, in float32, not as
    they are in the model now.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, decay)
        averaged = {name for name, p in model.named_parameters() if p.requires_grad}
        averaged.discard(_NEVER_AVERAGED)
        self._rest = {
            name: tensor.to(torch.float32 if tensor.is_floating_point() else None, copy=True)
            for name, tensor in model.state_dict().items()
            if name not in averaged
        }

    def export_state(self) -> dict[str, Tensor]:
        """Return a whole state dict of the model, with the averages and the rest of the start."""
        return super().export_state() | self._rest

    def import_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what ``export_state`` returned; raises ``CorruptError`` when a name is missing."""
        if missing := sorted(self._rest.keys() - tensors.keys()):
            raise CorruptError(f"the averaged weights lack {missing[:5]}")
        super().import_state(tensors)
        for name, tensor in self._rest.items():
            tensor.copy_(tensors[name])
