from __future__ import annotations

from typing import Any

import pytest

from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.lr_schedule import learning_rate


def _loop(**schedule: Any) -> TrainLoopConfig:
    return TrainLoopConfig.model_validate(
        {"num_steps": 100, "optimizer": {"lr": 2.0}, "schedule": schedule}
    )


def test_constant_rate_warms_up_as_the_reference_does() -> None:
    loop = _loop(kind="constant", warmup_steps=3)
    rates = [learning_rate(step, loop) for step in range(6)]
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_without_warm_up_the_first_step_has_the_whole_rate() -> None:
    assert learning_rate(0, _loop()) == 2.0


def test_cosine_halves_in_the_middle_and_ends_at_its_final_share() -> None:
    loop = _loop(kind="cosine", final_ratio=0.1)
    assert learning_rate(0, loop) == 2.0
    assert learning_rate(50, loop) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert learning_rate(100, loop) == pytest.approx(0.2)
    rates = [learning_rate(step, loop) for step in range(101)]
    assert rates == sorted(rates, reverse=True)
