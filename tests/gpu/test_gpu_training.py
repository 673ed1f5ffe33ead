"""Training steps on a GPU through the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Literal

import pytest
import torch
from torch import Tensor

from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.models.layers.packed_text import pack
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.steps.rank_environment import ALONE
from kinetoscope.training.dit.objective import FlowObjective
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.outcome import OutcomeSum

pytestmark = pytest.mark.gpu

TOKENS = 12
CONFIG = STDiTConfig(
    depth=2, width=64, num_heads=2, text_width=32, max_text_tokens=TOKENS, input_sq_size=32
)
OPTIMIZER = OptimizerConfig(lr=1e-3)


class OneRankOfMany(TorchDDPEngine):
    """Has a process group (nccl on a GPU) and DDP's buckets although it is alone."""

    wraps_one_rank = True


def _engine(
    device: torch.device,
    dtype: Literal["fp32", "bf16"],
    kind: type[TorchDDPEngine] = TorchDDPEngine,
) -> TorchDDPEngine:
    engine = kind(ALONE, dtype=dtype)
    engine.device = device
    torch.manual_seed(0)
    model = STDiT(CONFIG)
    zeros, ones = torch.zeros(CONFIG.in_channels), torch.ones(CONFIG.in_channels)
    objective = FlowObjective(model, RectifiedFlowConfig(), shift=zeros, scale=ones)
    engine.prepare(objective, OPTIMIZER)
    return engine


def _batch(seed: int) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    latent, lengths = (3, CONFIG.in_channels, 3, 8, 8), torch.tensor([TOKENS, 0, 5])
    tensors = {
        name: torch.randn(latent, generator=draws) for name in ("mean", "logvar", "draw", "noise")
    }
    sizes = {"height": 64.0, "width": 64.0, "num_frames": 9.0, "fps": 24.0}
    padded = torch.randn(3, TOKENS, CONFIG.text_width, generator=draws)
    text, places = pack(padded, torch.arange(TOKENS) < lengths[:, None])
    return {
        **tensors,
        "tau": torch.rand(3, generator=draws),
        "text": text,
        "text_places": places,
        "drop_text": torch.tensor([False, False, True]),
        **{name: torch.full((3,), value) for name, value in sizes.items()},
    }


def _steps(engine: TorchDDPEngine, seeds: range) -> None:
    for seed in seeds:
        for last in (False, True):
            engine.forward_backward(_batch(2 * seed + last), scale=1 / 6, last=last)
        engine.clip_gradients(1.0)
        engine.step(OPTIMIZER.lr)


def _state(engine: TorchDDPEngine) -> dict[str, Tensor]:
    state = engine.export_state()
    moments = {name: t for name, t in state["optimizer"].items() if not name.endswith("step")}
    return {name: t.detach().cpu().clone() for name, t in {**state["weights"], **moments}.items()}


@contextmanager
def _no_waiting(device: torch.device) -> Iterator[None]:
    """Raise where the process would wait for the GPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("dtype", "share"), [("fp32", 1e-3), ("bf16", 0.2)])
def test_steps_change_the_weights_as_on_the_cpu(
    device: torch.device,
    check_agreement: Callable[..., None],
    dtype: Literal["fp32", "bf16"],
    share: float,
) -> None:
    expected, actual = _engine(torch.device("cpu"), "fp32"), _engine(device, dtype)
    for engine in (expected, actual):
        # The first step of AdamW knows but the sign of each gradient, however small.
        engine.forward_backward(_batch(0), scale=1 / 3, last=True)
    gradients = [
        {n: p.grad for n, p in engine._objective.named_parameters() if p.grad is not None}
        for engine in (actual, expected)
    ]
    check_agreement(*gradients, share)
    norms = [float(engine.clip_gradients(1.0)) for engine in (actual, expected)]
    assert norms[0] == pytest.approx(norms[1], rel=share)


def test_a_resumed_run_goes_on_as_an_undisturbed_one(
    device: torch.device, check_agreement: Callable[..., None]
) -> None:
    undisturbed, first, second = (_engine(device, "bf16") for _ in range(3))
    _steps(undisturbed, range(4))
    _steps(first, range(2))
    groups = {
        group: {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        for group, tensors in first.export_state().items()
    }
    second.import_state(groups)
    _steps(second, range(2, 4))
    check_agreement(_state(second), _state(undisturbed), 1e-2)


def test_a_process_group_of_one_rank_changes_nothing(
    device: torch.device, check_agreement: Callable[..., None]
) -> None:
    alone = _engine(device, "bf16")
    _steps(alone, range(2))
    with closing(_engine(device, "bf16", OneRankOfMany)) as wrapped:
        _steps(wrapped, range(2))
        check_agreement(_state(wrapped), _state(alone), 1e-2)


def test_a_micro_batch_waits_for_nothing(device: torch.device) -> None:
    engine = _engine(device, "bf16")
    tensors = _batch(0)
    if device.type == "cuda":
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    engine.forward_backward(tensors, scale=1 / 3, last=True)
    sums = OutcomeSum((), device)
    with _no_waiting(device):
        for last in (False, True):
            values = engine.forward_backward(tensors, scale=1 / 3, last=last)
            sums.add(values, num_tokens=1)
    outcome = sums.over_ranks(engine, grad_norm=engine.clip_gradients(1.0), stop=False)
    assert outcome.is_finite
