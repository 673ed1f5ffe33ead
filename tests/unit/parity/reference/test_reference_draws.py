from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.parity.reference.draws import reference_timesteps


def test_the_reference_draws_each_kind_of_times_from_one_stream() -> None:
    def draw(kind: Any, count: int = 4000) -> Tensor:
        config = RectifiedFlowConfig(timestep_distribution=kind, num_timesteps=100)
        return reference_timesteps(count, config, torch.Generator().manual_seed(5))

    torch.manual_seed(5)
    assert torch.equal(draw("uniform"), torch.rand(4000) * 100)
    torch.manual_seed(5)
    assert torch.equal(draw("discrete"), torch.randint(0, 100, (4000,)))
    assert draw("logit_normal").median().item() == pytest.approx(50, abs=3)
    assert not torch.equal(draw("uniform", 2), draw("logit_normal", 2))
