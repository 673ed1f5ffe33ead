"""The pairwise rows that the chart is rendered with."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from covering_array import covering_array
from hypothesis import given
from hypothesis import strategies as st

CHOICES: dict[str, list[Any]] = {
    "a": [True, False],
    "b": ["x", "y", "z"],
    "c": [True, False],
    "d": [1, 2, 3, 4],
}


def _pairs(row: dict[str, Any]) -> set[Any]:
    return set(itertools.combinations(sorted(row.items()), 2))


def _all_pairs(choices: dict[str, list[Any]]) -> set[Any]:
    return set().union(
        *(
            _pairs(dict(zip(choices, row, strict=True)))
            for row in itertools.product(*choices.values())
        )
    )


def test_every_pair_is_in_some_row_and_far_fewer_rows_than_the_product() -> None:
    rows = covering_array(CHOICES)
    assert set().union(*map(_pairs, rows)) == _all_pairs(CHOICES)
    assert 12 <= len(rows) <= 16


def test_the_rows_are_the_same_each_time() -> None:
    assert covering_array(CHOICES) == covering_array(CHOICES)


@given(
    sizes=st.lists(st.integers(2, 4), min_size=3, max_size=6),
    data=st.data(),
)
def test_all_allowed_pairs_are_covered_and_no_forbidden_combination_is(
    sizes: list[int], data: st.DataObject
) -> None:
    choices = {f"p{i}": list(range(size)) for i, size in enumerate(sizes)}
    combination = st.dictionaries(st.sampled_from(sorted(choices)), st.just(1), min_size=2)
    forbidden = data.draw(st.lists(combination, max_size=3))
    rows = covering_array(choices, forbidden)
    every = [dict(zip(choices, row, strict=True)) for row in itertools.product(*choices.values())]
    allowed = [row for row in every if not any(row.items() >= f.items() for f in forbidden)]
    assert set().union(*map(_pairs, rows)) == set().union(*map(_pairs, allowed))
    assert not any(row.items() >= combo.items() for row in rows for combo in forbidden)


def test_a_combination_of_unknown_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not among the choices.*'w'"):
        covering_array(CHOICES, [{"b": "w"}])
