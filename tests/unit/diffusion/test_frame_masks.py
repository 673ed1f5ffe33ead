from __future__ import annotations

import math
from collections import Counter
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from kinetoscope.core.keys import random_key
from kinetoscope.diffusion.config import FrameMaskName, FrameMaskRatios
from kinetoscope.diffusion.frame_masks import draw_frame_masks
from kinetoscope.parity.reference.frame_masks import ReferenceFrameMasks

COUNT = 4000


def _draw(count: int, latent_frames: int, ratios: dict[FrameMaskName, float]) -> Tensor:
    keys = [random_key("mask", 3, index) for index in range(count)]
    return draw_frame_masks(keys, latent_frames, ratios)


def _patterns(masks: Tensor, name: str) -> Counter[Any]:
    """Count masks; of independent frames, numbers of given frames and whether the last is one."""
    if name == "random":
        return Counter((int((~mask).sum()), bool(mask[-1])) for mask in masks)
    return Counter(tuple(mask.tolist()) for mask in masks)


def _same_distribution(ours: Counter[Any], theirs: Counter[Any]) -> bool:
    """Tell whether two samples of one size pass a chi-square test at one in a million."""
    values = set(ours) | set(theirs)
    rare = [v for v in values if ours[v] + theirs[v] < 10]
    pooled = [({v}, ours[v], theirs[v]) for v in values if v not in rare]
    pooled.append((set(rare), sum(ours[v] for v in rare), sum(theirs[v] for v in rare)))
    statistic = sum((a - b) ** 2 / (a + b) for _, a, b in pooled if a + b)
    freedom = max(len(pooled) - 1, 1)
    # the quantile of chi-square after Wilson and Hilferty (1931); 4.75 standard deviations
    limit = freedom * (1 - 2 / (9 * freedom) + 4.75 * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic < limit


@pytest.mark.parametrize("latent_frames", [4, 5, 9, 15])
@pytest.mark.parametrize("name", get_args(FrameMaskName))
def test_each_strategy_has_the_reference_distribution(
    name: FrameMaskName, latent_frames: int
) -> None:
    reference = ReferenceFrameMasks({name: 1.0}, seed=8)
    theirs = torch.stack([reference.draw(latent_frames) for _ in range(COUNT)])
    ours = _draw(COUNT, latent_frames, {name: 1.0})
    assert _same_distribution(_patterns(ours, name), _patterns(theirs, name))


def test_strategies_come_at_their_shares_and_the_rest_is_identity() -> None:
    masks = _draw(COUNT, 9, {"image_head": 0.2, "image_tail": 0.05, "interpolate": 0.0})
    counts = _patterns(masks, "")
    head, tail = tuple([False] + [True] * 8), tuple([True] * 8 + [False])
    assert counts[head] / COUNT == pytest.approx(0.2, abs=0.03)
    assert counts[tail] / COUNT == pytest.approx(0.05, abs=0.02)
    assert counts[head] + counts[tail] + counts[(True,) * 9] == COUNT


@pytest.mark.parametrize("latent_frames", [1, 2, 3, 4, 6, 31])
@pytest.mark.parametrize("name", get_args(FrameMaskName))
def test_every_sample_has_a_frame_to_generate(name: FrameMaskName, latent_frames: int) -> None:
    masks = _draw(300, latent_frames, {name: 1.0})
    assert masks.dtype == torch.bool
    assert masks.shape == (300, latent_frames)
    assert masks.any(dim=1).all()


@pytest.mark.parametrize("latent_frames", [2, 3])
def test_a_quarter_of_two_or_three_frames_is_one(latent_frames: int) -> None:
    head = _draw(20, latent_frames, {"quarter_head": 1.0})
    assert head.tolist() == [[False] + [True] * (latent_frames - 1)] * 20
    assert ((~_draw(50, latent_frames, {"quarter_random": 1.0})).sum(dim=1) == 1).all()


def test_both_ends_of_two_frames_are_not_given() -> None:
    assert _draw(20, 2, {"image_head_tail": 1.0}).all()
    assert not ReferenceFrameMasks({"image_head_tail": 1.0}, seed=0).draw(2).any()


def test_the_reference_has_no_quarter_of_three_frames() -> None:
    with pytest.raises(ValueError, match="3 latent frames have no quarter"):
        ReferenceFrameMasks({"quarter_tail": 1.0}, seed=0).draw(3)


def test_a_mask_depends_on_its_key_alone() -> None:
    keys = [random_key("mask", index) for index in range(64)]
    ratios: dict[FrameMaskName, float] = {"random": 0.5, "quarter_random": 0.5}
    together = draw_frame_masks(keys, 12, ratios)
    assert torch.equal(together[10:13], draw_frame_masks(keys[10:13], 12, ratios))
    assert len({tuple(mask.tolist()) for mask in together}) > 40


def test_no_ratios_and_no_samples_are_fine() -> None:
    assert _draw(5, 7, {}).all()
    assert draw_frame_masks([], 7, {"random": 1.0}).shape == (0, 7)


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ({"quarter": 0.1}, "quarter"),
        ({"random": 0.7, "image_head": 0.4}, "sum to 1.1, more than 1"),
        ({"random": -0.1}, "greater than or equal to 0"),
        ({"interpolate": 0.1, "intepolate": 0.1}, "names a frame mask twice"),
        ([0.1], "dict"),
    ],
)
def test_wrong_ratios_are_refused(ratios: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TypeAdapter(FrameMaskRatios).validate_python(ratios)


def test_the_references_spelling_is_understood() -> None:
    ratios = TypeAdapter(FrameMaskRatios).validate_python({"intepolate": 0.3})
    assert ratios == {"interpolate": 0.3}


def test_reference_ratios_have_to_sum_to_one_with_identity_among_them() -> None:
    with pytest.raises(ValueError, match=r"sum to 0\.75, not to 1"):
        ReferenceFrameMasks({"identity": 0.5, "random": 0.25}, seed=0)
