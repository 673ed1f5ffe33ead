from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from kinetoscope.data.prepare import split
from kinetoscope.data.prepare.split import told_share

KEYS = [int(key) for key in np.random.default_rng(0).integers(0, 2**60, 1000)]


def split_groups(
    groups: Sequence[int], keys: Sequence[int], *, fraction: float, seed: int
) -> list[str]:
    numbers = np.asarray(groups, np.int64), np.asarray(keys, np.int64)
    heldout: npt.NDArray[np.bool_] = split.split_groups(*numbers, fraction=fraction, seed=seed)
    return ["heldout" if held else "train" for held in heldout]


def test_a_group_is_never_torn() -> None:
    groups = [i // 3 for i in range(999)]
    sides = split_groups(groups, KEYS[:999], fraction=0.3, seed=0)
    assert all(len(set(sides[i : i + 3])) == 1 for i in range(0, 999, 3))
    assert 0.2 < sides.count("heldout") / 999 < 0.4


def test_the_seed_decides_and_order_does_not() -> None:
    groups = list(range(1000))
    sides = split_groups(groups, KEYS, fraction=0.1, seed=0)
    assert sides == split_groups(groups, KEYS, fraction=0.1, seed=0)
    assert sides != split_groups(groups, KEYS, fraction=0.1, seed=1)
    assert sides[::-1] == split_groups(groups, KEYS[::-1], fraction=0.1, seed=0)


def test_more_data_moves_few_groups() -> None:
    few = split_groups(list(range(500)), KEYS[:500], fraction=0.1, seed=0)
    many = split_groups(list(range(1000)), KEYS, fraction=0.1, seed=0)
    assert sum(a != b for a, b in zip(few, many[:500], strict=True)) < 20


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5])
@pytest.mark.parametrize(
    "sizes", [[1] * 40, [12, 9, 30, 7, 8, 10, 6, 4], [58, 10, 9, 9], [90, 5, 5]]
)
def test_the_share_of_clips_is_met_as_nearly_as_groups_allow(
    sizes: list[int], fraction: float
) -> None:
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    keys = [KEYS[group] for group in groups]
    for seed in range(20):
        sides = split_groups(groups, keys, fraction=fraction, seed=seed)
        wanted = fraction * len(groups)
        # No other group, added or left out, comes nearer.
        missed = abs(sides.count("heldout") - wanted)
        held = {group for group, side in zip(groups, sides, strict=True) if side == "heldout"}
        rest = [size for group, size in enumerate(sizes) if group not in held]
        assert all(abs(sides.count("heldout") + size - wanted) >= missed for size in rest[1:])


def test_a_share_that_groups_do_not_allow_is_told() -> None:
    assert told_share(30, 100, 0.3) == told_share(1, 4, 0.3) == ""
    assert "58 of 86 clips are held out (67%, asked for 30%)" in told_share(58, 86, 0.3)


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
@pytest.mark.parametrize("num_groups", [2, 3, 10])
def test_both_sides_get_a_clip(fraction: float, num_groups: int) -> None:
    sides = split_groups(list(range(num_groups)), KEYS[:num_groups], fraction=fraction, seed=0)
    assert set(sides) == {"train", "heldout"}


@pytest.mark.parametrize("groups", [[], [0], [0, 0, 0]])
def test_one_group_is_refused(groups: list[int]) -> None:
    with pytest.raises(ValueError, match=r"group\(s\) can't be split"):
        split_groups(groups, KEYS[: len(groups)], fraction=0.1, seed=0)
