"""Rows of values that hold every allowed pair of choices at least once (pairwise testing)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Choices = Mapping[str, Sequence[Any]]
Forbidden = Sequence[Mapping[str, Any]]
"""Each entry is a combination (parameter -> value) that no row may hold as a whole."""

_Cell = tuple[str, int]


def covering_array(choices: Choices, forbidden: Forbidden = ()) -> list[dict[str, Any]]:
    """Rows that hold every pair of choices which some allowed row can hold.

    Greedy: each row starts with a pair that is still missing, then gives every other parameter the
    choice that adds most missing pairs. The same input gives the same rows.

    Raises:
        ValueError: a combination names an unknown parameter or value, or a parameter has no choice
            that goes with the others.
    """
    rules = [_rule(choices, combination) for combination in forbidden]
    missing = set(_pairs(choices))
    rows: list[dict[str, int]] = []
    for pair in sorted(missing):
        if pair not in missing:
            continue
        row = _row(choices, rules, missing, pair)
        missing.discard(pair)
        if row is not None:
            missing.difference_update(_held(row))
            rows.append(row)
    if not rows:
        raise ValueError("no row is allowed: the forbidden combinations exclude each other's rest")
    return [{name: choices[name][index] for name, index in row.items()} for row in rows]


def _rule(choices: Choices, combination: Mapping[str, Any]) -> frozenset[_Cell]:
    try:
        return frozenset(
            (name, list(choices[name]).index(value)) for name, value in combination.items()
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f"not among the choices: {dict(combination)} ({error})") from error


def _pairs(choices: Choices) -> Iterator[tuple[_Cell, _Cell]]:
    for first, second in itertools.combinations(sorted(choices), 2):
        for i, j in itertools.product(range(len(choices[first])), range(len(choices[second]))):
            yield (first, i), (second, j)


def _held(row: Mapping[str, int]) -> set[tuple[_Cell, _Cell]]:
    return set(itertools.combinations(sorted(row.items()), 2))


def _row(
    choices: Choices, rules: Sequence[frozenset[_Cell]], missing: set[Any], pair: Any
) -> dict[str, int] | None:
    """A whole allowed row with this pair; None if there is none. Backtracks over the choices."""
    ruled = {name for rule in rules for name, _ in rule}
    # First those that can lead into a dead end: going back over the others would take for ever.
    names = sorted(choices.keys() - dict(pair).keys(), key=lambda name: (name not in ruled, name))
    row = dict(pair)
    if not _allowed(row, rules):
        return None

    def fill(position: int) -> bool:
        if position == len(names):
            return True
        name = names[position]
        ranked = sorted(
            range(len(choices[name])), key=lambda index: -_gain(row, (name, index), missing)
        )
        for index in ranked:
            row[name] = index
            if _allowed(row, rules) and fill(position + 1):
                return True
        del row[name]
        return False

    return row if fill(0) else None


def _gain(row: Mapping[str, int], cell: _Cell, missing: set[Any]) -> int:
    return sum(tuple(sorted((other, cell))) in missing for other in row.items() if other != cell)


def _allowed(row: Mapping[str, int], rules: Sequence[frozenset[_Cell]]) -> bool:
    cells = row.items()
    return not any(rule <= cells for rule in rules)
