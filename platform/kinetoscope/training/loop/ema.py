"""An exponential moving average of the trained weights, in float32."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinetoscope.core.errors import CorruptError

_REFERENCE_LEAVES_OUT = "pos_embed"


class EMA:
    """Averages the parameters of a model that are trained; the others never change.

    Averages are float32 even of a bfloat16 model, whose eight bits would swallow most steps.

    Args:
        model: started from as it is.
        decay: share of the average that each step keeps.
        reference_compat: do as Open-Sora 1.2: a parameter that is called ``pos_embed`` is not
            averaged, and what is not averaged (that, frozen parameters, buffers) is exported as it
            was at the start, not as it is in the model now.
    """

    def __init__(self, model: nn.Module, decay: float, *, reference_compat: bool = False) -> None:
        self._model = model
        self._decay = decay
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if reference_compat:
            trained.pop(_REFERENCE_LEAVES_OUT, None)
        self._live = [parameter.detach() for parameter in trained.values()]
        self._average = {name: _copy(p.detach()) for name, p in trained.items()}
        rest = model.state_dict() if reference_compat else {}
        self._rest = {n: _copy(t) for n, t in rest.items() if n not in self._average}

    def update(self) -> None:
        """Move the average towards the current weights."""
        # No copy where the model is float32 already.
        live = [parameter.float() for parameter in self._live]
        torch._foreach_lerp_(list(self._average.values()), live, 1 - self._decay)

    def export_state(self) -> dict[str, Tensor]:
        """Return a whole state dict of the model with the averages in it."""
        return {**self._model.state_dict(), **self._rest, **self._average}

    def import_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what ``export_state`` returned; raises ``CorruptError`` when a name is missing."""
        kept = self._rest | self._average
        if missing := sorted(kept.keys() - tensors.keys()):
            raise CorruptError(f"the averaged weights lack {missing[:5]}")
        for name, tensor in kept.items():
            tensor.copy_(tensors[name])


def _copy(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
