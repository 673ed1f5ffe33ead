from __future__ import annotations

import pytest
import torch

from kinetoscope.steps.rank_environment import ALONE
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.outcome import OutcomeSum, imbalance


@pytest.fixture
def engine() -> TorchDDPEngine:
    return TorchDDPEngine(ALONE, dtype="fp32")


def test_means_are_over_the_samples_that_have_a_value(engine: TorchDDPEngine) -> None:
    sums = OutcomeSum(("identity", "kl"))
    sums.add({"loss": torch.tensor([1.0, 2.0, 3.0]), "identity": torch.tensor([6.0])}, 10)
    sums.add({"loss": torch.tensor([6.0])}, 5)
    outcome = sums.over_ranks(engine, stop=False)
    assert outcome.loss == 3.0
    assert outcome.parts == {"identity": 6.0}
    assert (outcome.num_samples, outcome.num_tokens, outcome.stop) == (4, 15, False)


def test_one_bad_sample_makes_the_step_not_finite(engine: TorchDDPEngine) -> None:
    sums = OutcomeSum(())
    sums.add({"loss": torch.tensor([1.0, float("nan")])}, 0)
    outcome = sums.over_ranks(engine, stop=True)
    assert not outcome.is_finite
    assert outcome.stop


def test_a_single_share_has_nobody_to_be_slower_than(engine: TorchDDPEngine) -> None:
    sums = OutcomeSum(())
    sums.add({"loss": torch.tensor([1.0])}, 0)
    assert sums.over_ranks(engine, stop=False, compute_seconds=2.0).rank_imbalance is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([1.0, 1.0], 1.0), ([1.0, 3.0], 1.5), ([2.0, 2.0, 2.0, 6.0], 2.0), ([0.0, 0.0], None)],
)
def test_imbalance_is_the_slowest_share_over_the_mean(
    seconds: list[float], expected: float | None
) -> None:
    assert imbalance(seconds) == expected
