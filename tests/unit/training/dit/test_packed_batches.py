"""Text is packed on the host: with such a batch, the model waits for nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny.models import random_transformer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.diffusion.flow_model import Conditions
from kinetoscope.training.dit.feed import text_tensors
from kinetoscope.training.dit.objective import FlowObjective

MASK = torch.tensor([[0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]], dtype=torch.bool)


class _Waiting(TorchDispatchMode):
    """Gathers operators for which a GPU has to be waited for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.calls: list[str] = []

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else None
        if indices is None:
            tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
            waits = bool(tags & set(function.tags))
        else:
            waits = any(x is not None and x.dtype is torch.bool for x in indices)
        if waits:
            self.calls.append(name)
        return function(*args, **(kwargs or {}))


def _batch() -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(0)
    latents = {
        name: torch.randn(3, 4, 2, 4, 4, generator=draws) for name in ("mean", "draw", "noise")
    }
    sizes = {"height": 32.0, "width": 32.0, "num_frames": 8.0, "fps": 8.0}
    return {
        **latents,
        "logvar": torch.full((3, 4, 2, 4, 4), -8.0),
        "tau": torch.linspace(0.1, 0.9, 3),
        "drop_text": torch.tensor([True, False, False]),
        **{name: torch.full((3,), value) for name, value in sizes.items()},
        "frame_mask": torch.tensor([[True, True], [False, True], [True, True]]),
    }


def _text() -> Tensor:
    return torch.randn(3, 6, 12, generator=torch.Generator().manual_seed(1))


def _objective() -> FlowObjective:
    model = random_transformer(activation_checkpointing="full")
    flow = RectifiedFlowConfig(base_size_px=32)
    return FlowObjective(model, flow, shift=torch.zeros(4), scale=torch.ones(4))


def _run(objective: FlowObjective, tensors: dict[str, Tensor]) -> tuple[list[Tensor], list[str]]:
    with _Waiting() as waiting:
        loss = objective(tensors)["loss"]
        loss.sum().backward()
    gradients = [p.grad for p in objective.model.parameters() if p.grad is not None]
    return [loss.detach(), *gradients], waiting.calls


def test_nothing_is_waited_for_with_packed_text() -> None:
    packed, calls = _run(_objective(), _batch() | text_tensors(_text(), MASK, packed=True))
    assert not calls
    padded, calls = _run(_objective(), _batch() | {"text": _text(), "text_mask": MASK})
    assert calls, "the mask is looked at"
    for ours, theirs in zip(packed, padded, strict=True):
        assert torch.equal(ours, theirs)


def test_other_models_get_their_text_as_it_was_encoded() -> None:
    tensors = text_tensors(_text(), MASK, packed=False)
    assert torch.equal(tensors["text"], _text())
    assert torch.equal(tensors["text_mask"], MASK)


def test_guidance_takes_padded_text() -> None:
    batch = text_tensors(_text(), MASK, packed=True)
    conditions = Conditions(
        text_BSD=batch["text"],
        text_mask_BS=None,
        **{name: torch.ones(3) for name in ("height_B", "width_B", "fps_B")},
        text_places_P2=batch["text_places"],
    )
    with pytest.raises(ValueError, match="guidance takes padded text"):
        conditions.with_null_text()
