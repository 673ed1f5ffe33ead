from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kinetoscope.steps.rank_environment import ALONE
from kinetoscope.tracing.host_reads import HostReads
from kinetoscope.training.engine.base import Objective, Tensors
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.outcome import OutcomeSum, imbalance


@pytest.fixture
def engine() -> TorchDDPEngine:
    return TorchDDPEngine(ALONE, dtype="fp32")


CPU = torch.device("cpu")
NORM = torch.tensor(2.0)


def test_means_are_over_the_samples_that_have_a_value(engine: TorchDDPEngine) -> None:
    sums = OutcomeSum(("identity", "kl"), CPU)
    sums.add({"loss": torch.tensor([1.0, 2.0, 3.0]), "identity": torch.tensor([6.0])}, 10)
    sums.add({"loss": torch.tensor([6.0])}, 5)
    outcome = sums.over_ranks(engine, grad_norm=NORM, stop=False)
    assert outcome.loss == 3.0
    assert outcome.parts == {"identity": 6.0}
    assert (outcome.num_samples, outcome.num_tokens, outcome.stop) == (4, 15, False)
    assert outcome.grad_norm == 2.0


def test_one_bad_sample_makes_the_step_not_finite(engine: TorchDDPEngine) -> None:
    sums = OutcomeSum((), CPU)
    sums.add({"loss": torch.tensor([1.0, float("nan")])}, 0)
    outcome = sums.over_ranks(engine, grad_norm=NORM, stop=True)
    assert not outcome.is_finite
    assert outcome.stop


@pytest.mark.parametrize("norm", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_makes_the_step_not_finite(
    engine: TorchDDPEngine, norm: float
) -> None:
    sums = OutcomeSum((), CPU)
    sums.add({"loss": torch.tensor([1.0])}, 0)
    assert not sums.over_ranks(engine, grad_norm=torch.tensor(norm), stop=False).is_finite


class Line(Objective):
    parts = ("error",)

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 1)

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        error = self.model(tensors["x"])[:, 0]
        return {"loss": error.square(), "error": error}


def test_no_figure_is_read_on_its_own(engine: TorchDDPEngine) -> None:
    engine.prepare(Line(), OptimizerConfig(lr=0.1))
    sums = OutcomeSum(("error",), CPU)
    with HostReads("cpu") as reads:
        for last in (False, True):
            values = engine.forward_backward({"x": torch.ones(2, 3)}, scale=0.25, last=last)
            sums.add(values, 1)
        norm = engine.clip_gradients(1.0)
        outcome = sums.over_ranks(engine, grad_norm=norm, stop=False)
        engine.step(0.1)
    assert reads.found == []
    assert outcome.grad_norm > 0
    assert outcome.loss == pytest.approx(outcome.parts["error"] ** 2)


def test_a_single_share_has_nobody_to_be_slower_than(engine: TorchDDPEngine) -> None:
    sums = OutcomeSum((), CPU)
    sums.add({"loss": torch.tensor([1.0])}, 0)
    outcome = sums.over_ranks(engine, grad_norm=NORM, stop=False, compute_seconds=2.0)
    assert outcome.rank_imbalance is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([1.0, 1.0], 1.0), ([1.0, 3.0], 1.5), ([2.0, 2.0, 2.0, 6.0], 2.0), ([0.0, 0.0], None)],
)
def test_imbalance_is_the_slowest_share_over_the_mean(
    seconds: list[float], expected: float | None
) -> None:
    assert imbalance(seconds) == expected
