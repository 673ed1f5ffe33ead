from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kinetoscope.checkpoints.restore import restore_weights
from kinetoscope.core.errors import CorruptError
from kinetoscope.data.video.clip_reader import to_pixels
from kinetoscope.steps.rank_environment import ALONE
from kinetoscope.training.engine.base import Objective, Tensors
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine, collectives_of
from kinetoscope.training.engine.transfer import pixels_in


class Regression(Objective):
    """Fit a line; the second layer is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
        self.model[1].requires_grad_(False)

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        error = self.model(tensors["x"])[:, 0] - tensors["y"]
        return {"loss": error.square()}


def _engine(lr: float = 0.05) -> TorchDDPEngine:
    engine = TorchDDPEngine(ALONE, dtype="fp32")
    engine.prepare(Regression(), OptimizerConfig(lr=lr))
    return engine


def _batch(num_samples: int) -> dict[str, Tensor]:
    torch.manual_seed(num_samples)
    x = torch.randn(num_samples, 4)
    return {"x": x, "y": x.sum(1)}


def _train(engine: TorchDDPEngine, num_steps: int) -> list[float]:
    losses = []
    for _ in range(num_steps):
        values = engine.forward_backward(_batch(8), scale=1 / 8, last=True)
        engine.clip_gradients(1.0)
        engine.step(0.05)
        losses.append(float(values["loss"].mean()))
    return losses


@pytest.mark.parametrize(
    ("device", "backend", "gpus"), [("cpu", "gloo", None), ("cuda:1", "nccl", [1])]
)
def test_a_gpu_has_collectives_of_its_own(
    device: str, backend: str, gpus: list[int] | None
) -> None:
    assert collectives_of(torch.device(device)) == (backend, gpus)


def test_loss_falls_on_one_batch() -> None:
    losses = _train(_engine(), 40)
    assert losses[-1] < 0.5 * losses[0]


class Pictures(Objective):
    """Keeps the pixels that it made of what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1)

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        self.given, self.pixels = tensors["pixels"], pixels_in(tensors)
        return {"loss": self.model(self.pixels.flatten(1).mean(1, keepdim=True))[:, 0]}


def test_levels_of_pixels_become_what_the_host_would_have_made_of_them() -> None:
    engine, objective = TorchDDPEngine(ALONE, dtype="fp32"), Pictures()
    engine.prepare(objective, OptimizerConfig(lr=0.1))
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 2, 8, 16).expand(3, -1, -1, -1)
    levels_BTHWC = torch.stack([levels.movedim(0, -1), 255 - levels.movedim(0, -1)])
    engine.forward_backward({"pixels": levels_BTHWC}, scale=0.5, last=True)
    expected = torch.stack([to_pixels(clip.numpy()) for clip in levels_BTHWC])
    assert objective.given.dtype is torch.uint8, "floats would be kept until the step's end"
    assert torch.equal(objective.pixels, expected)
    assert objective.pixels.stride() == expected.stride()
    assert [float(x) for x in objective.pixels.aminmax()] == [-1.0, 1.0]


def test_unequal_micro_batches_weigh_by_their_samples() -> None:
    whole, parts = _engine(), _engine()
    batch = _batch(7)
    whole.forward_backward(batch, scale=1 / 7, last=True)
    for piece, last in ((slice(0, 2), False), (slice(2, 7), True)):
        tensors = {name: tensor[piece] for name, tensor in batch.items()}
        parts.forward_backward(tensors, scale=1 / 7, last=last)
    norms = [float(engine.clip_gradients(None)) for engine in (parts, whole)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_clipping_returns_the_norm_from_before() -> None:
    engine = _engine()
    engine.forward_backward(_batch(8), scale=100.0, last=True)
    before = float(engine.clip_gradients(None))
    assert before > 1.0
    assert float(engine.clip_gradients(1.0)) == pytest.approx(before)
    assert float(engine.clip_gradients(None)) == pytest.approx(1.0, rel=1e-4)


def test_imported_state_goes_on_bit_for_bit() -> None:
    undisturbed, resumed = _engine(), _engine()
    _train(undisturbed, 5)
    saved = {
        group: {name: tensor.clone() for name, tensor in tensors.items()}
        for group, tensors in undisturbed.export_state().items()
    }
    resumed.import_state(saved)
    assert _train(undisturbed, 5) == _train(resumed, 5)
    expected, found = undisturbed.export_state(), resumed.export_state()
    assert expected["optimizer"].keys() == found["optimizer"].keys()
    for group, tensors in expected.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, found[group][name]), (group, name)


def test_frozen_parameters_have_weights_but_no_optimizer_state() -> None:
    engine = _engine()
    _train(engine, 1)
    state = engine.export_state()
    assert "1.weight" in state["weights"]
    assert {name.split(".")[0] for name in state["optimizer"]} == {"0"}


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(CorruptError, match=r"1 missing \(bias\)"):
        restore_weights(model, {"weight": torch.zeros(2, 2)})
    with pytest.raises(CorruptError, match=r"weight \[3, 2\] for \[2, 2\]"):
        restore_weights(model, {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)})


def test_optimizer_state_of_unknown_parameters_is_refused() -> None:
    engine = _engine()
    state = engine.export_state()
    state["optimizer"]["9.weight.step"] = torch.zeros(())
    with pytest.raises(CorruptError, match=r"9\.weight"):
        engine.import_state(state)
