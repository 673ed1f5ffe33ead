from __future__ import annotations

import pytest

from kinetoscope.core.errors import DataError
from kinetoscope.data.prepare.split import split_groups

KEYS = [f"clip-{i}" for i in range(1000)]


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


def test_more_data_moves_no_group() -> None:
    few = split_groups(list(range(500)), KEYS[:500], fraction=0.1, seed=0)
    many = split_groups(list(range(1000)), KEYS, fraction=0.1, seed=0)
    assert many[:500] == few


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
@pytest.mark.parametrize("num_groups", [2, 3, 10])
def test_both_sides_get_a_clip(fraction: float, num_groups: int) -> None:
    sides = split_groups(list(range(num_groups)), KEYS[:num_groups], fraction=fraction, seed=0)
    assert set(sides) == {"train", "heldout"}


@pytest.mark.parametrize("groups", [[], [0], [0, 0, 0]])
def test_one_group_is_refused(groups: list[int]) -> None:
    with pytest.raises(DataError, match=r"group\(s\) of near-duplicates can't be split") as caught:
        split_groups(groups, KEYS[: len(groups)], fraction=0.1, seed=0)
    assert caught.value.hint
