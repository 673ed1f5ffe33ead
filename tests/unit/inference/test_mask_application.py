"""References in the latents; the reference's own way is checked in unit/parity."""

from __future__ import annotations

import pytest
import torch

from kinetoscope.core.errors import ConfigError
from kinetoscope.inference.mask_strategy import apply_mask_strategy


def _latents(frames: int) -> torch.Tensor:
    return torch.arange(frames).float().reshape(1, frames, 1, 1) + 100


def test_frames_come_from_the_reference_and_the_input_stays() -> None:
    noise = torch.zeros(1, 1, 15, 1, 1)
    strategy = "0,0,-5,0,5;0,1,0,-1,1,0.5"
    z, mask = apply_mask_strategy(noise, [[_latents(15), _latents(1)]], [strategy], align=5)
    assert z.flatten().tolist() == [110, 111, 112, 113, 114, *[0] * 9, 100]
    assert mask is not None
    assert mask.tolist() == [[0, 0, 0, 0, 0, *[1] * 9, 0.5]]
    assert not noise.any()


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        ("0,1", "uses reference 1, but there are 1"),
        ("0,0,0,5", "frame 5 of a clip of 5"),
        ("0,0,0,-6", "frame -6 of a clip of 5"),
        ("0,0,2", "frame 2 of a reference of 2"),
    ],
)
def test_what_there_is_not_is_refused(strategy: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        apply_mask_strategy(torch.zeros(1, 1, 5, 1, 1), [[_latents(2)]], [strategy])
