"""The pairs of near-duplicates among many clips."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from kinetoscope.data.duplicates.alignment import align
from kinetoscope.data.duplicates.candidates import Candidates, alike_frames, alike_regions
from kinetoscope.data.duplicates.compare import detailed, distances
from kinetoscope.data.duplicates.components import components
from kinetoscope.data.duplicates.runs import run_starts
from kinetoscope.data.duplicates.signature import fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.int64]

Kind = Literal["equal", "same", "mirrored", "cropped", "cropped and mirrored"]
"""How one clip was made of the other: ``same`` by another encode, size, brightness or contrast."""

KINDS: tuple[Kind, ...] = get_args(Kind)

# Bounds the memory for pictures to some hundred MB.
_CHUNK = 1024
# A window of more than this share of both sides is the whole picture.
_WHOLE_SHARE = 0.97
_MIN_SHARE, _EDGE = 0.42, 0.03


@dataclass(frozen=True, slots=True)
class NearPairs:
    """Pairs of clips that show the same, sorted; ``P`` of each column.

    Attributes:
        first: index of one clip.
        second: index of the other, larger.
        distance: of their pictures, see `compare.distances`.
        kind: index into ``KINDS``.
    """

    first: Indices
    second: Indices
    distance: npt.NDArray[np.float64]
    kind: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[int, int, float, Kind]]:
        for i, j, distance, kind in zip(
            self.first.tolist(), self.second.tolist(), self.distance, self.kind, strict=True
        ):
            yield i, j, float(distance), KINDS[kind]


def near_pairs(
    signatures: npt.NDArray[np.uint8],
    max_distance: float,
    sources: npt.NDArray[np.int64] | None = None,
) -> NearPairs:
    """Find the pairs of clips that show the same.

    Enough of them to join all that belong together, not each two of a group: a clip makes a pair
    with the first one that equals it; of many that look alike, with some; and those that are
    already joined as wholes are not looked at for crops.

    Args:
        signatures: uint8 ``N L``, one a row (`signature.signature`).
        max_distance: largest distance of a pair.
        sources: ``N`` numbers from 0; clips of one make no pair, unless they are equal.
    """
    rows, member = _distinct(signatures)
    numbers = np.arange(len(signatures)) if sources is None else sources
    original = rows[member]
    repeated = np.flatnonzero(original != np.arange(len(original)))
    found = list(_compare(fields(signatures), rows, numbers, max_distance))
    one = np.concatenate([original[repeated], *(pairs.outer for pairs, _ in found)])
    other = np.concatenate([repeated, *(pairs.inner for pairs, _ in found)])
    distance = np.concatenate([np.zeros(len(repeated)), *(distance for _, distance in found)])
    equal = np.zeros(len(repeated), np.uint8)
    kind = np.concatenate([equal, *(_kind(pairs) for pairs, _ in found)])
    first, second = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((kind, distance, second, first))
    order = order[run_starts(first[order], second[order])]
    return NearPairs(first[order], second[order], distance[order], kind[order])


def _distinct(signatures: npt.NDArray[np.uint8]) -> tuple[Indices, Indices]:
    """Return the first row of each content, and which of these each row equals.

    In the order of digests, so that what is found doesn't depend on the rows' order.
    """
    digests = [blake2b(row.tobytes(), digest_size=16).digest() for row in signatures]
    # As integers: numpy's byte strings lose trailing zeros.
    values = np.frombuffer(b"".join(digests), dtype=[("high", "<u8"), ("low", "<u8")])
    _, rows, member = np.unique(values, return_index=True, return_inverse=True)
    return rows, member


def _compare(
    records: npt.NDArray[np.void], rows: Indices, sources: Indices, max_distance: float
) -> Iterator[tuple[Candidates, Floats]]:
    """Yield what is near, of clips that look alike as wholes and then of others."""
    found, rest = [], []
    for guesses in _chunks(_between(alike_frames(records, rows), sources)):
        usable = guesses[~guesses.mirrored | detailed(records[guesses.inner])]
        near, distance = _near(records, usable, max_distance)
        found.append(usable[near])
        rest.append(usable[~near])
        yield usable[near], distance
    joined = _join(sources, found)
    for more in (*rest, alike_regions(records, rows)):
        for guesses in _chunks(_between(more, joined)):
            moved = align(records, guesses[detailed(records[guesses.inner])])
            moved = moved[_lies_inside(moved.window)]
            near, distance = _near(records, moved, max_distance)
            yield moved[near], distance


def _near(
    records: npt.NDArray[np.void], guesses: Candidates, max_distance: float
) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Return which guesses are near, and the distances of these."""
    distance = distances(records, guesses)
    near = distance <= max_distance
    return near, distance[near]


def _between(guesses: Candidates, groups: Indices) -> Candidates:
    return guesses[groups[guesses.outer] != groups[guesses.inner]]


def _join(groups: Indices, found: Sequence[Candidates]) -> Indices:
    """Join the groups of clips that are near."""
    first = np.concatenate([np.zeros(0, np.int64), *(groups[pairs.outer] for pairs in found)])
    second = np.concatenate([np.zeros(0, np.int64), *(groups[pairs.inner] for pairs in found)])
    return components(int(groups.max(initial=-1)) + 1, first, second)[groups]


def _chunks(guesses: Candidates) -> Iterator[Candidates]:
    for start in range(0, len(guesses), _CHUNK):
        yield guesses[start : start + _CHUNK]


def _lies_inside(window: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    center, size = window[:, :2], window[:, 2:]
    inside = abs(center - 0.5) + size / 2 <= 0.5 + _EDGE
    return np.asarray((inside & (size >= _MIN_SHARE)).all(axis=1))


def _kind(pairs: Candidates) -> npt.NDArray[np.uint8]:
    cropped = (pairs.window[:, 2:] < _WHOLE_SHARE).any(axis=1)
    return np.asarray(1 + pairs.mirrored + 2 * cropped, dtype=np.uint8)
