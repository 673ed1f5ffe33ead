"""An exponential moving average of the trained weights, in float32."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinetoscope.core.errors import CorruptError


class EMA:
    """Averages the parameters of a model that are trained; the others never change.

    Averages are float32 even of a bfloat16 model, whose eight bits would swallow most steps.

    Args:
        model: started from as it is.
        decay: share of the average that each step keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._live = [parameter.detach() for parameter in trained.values()]
        self._average = {n: p.detach().to(torch.float32, copy=True) for n, p in trained.items()}

    def update(self) -> None:
        """Move the average towards the current weights."""
        # No copy where the model is float32 already.
        live = [parameter.float() for parameter in self._live]
        torch._foreach_lerp_(list(self._average.values()), live, 1 - self._decay)

    def export_state(self) -> dict[str, Tensor]:
        """Return a whole state dict of the model with the averages in it."""
        return {**self._model.state_dict(), **self._average}

    def import_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what ``export_state`` returned; raises ``CorruptError`` when a name is missing."""
        if missing := sorted(self._average.keys() - tensors.keys()):
            raise CorruptError(f"the averaged weights lack {missing[:5]}")
        for name, average in self._average.items():
            average.copy_(tensors[name])
