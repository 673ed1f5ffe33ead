"""Groups of clips that show the same, so that a split can't tear them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.data.duplicates.components import components
from kinetoscope.data.duplicates.pairs import near_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from kinetoscope.data.duplicates.pairs import NearPairs

    Indices = npt.NDArray[np.int64]


def group_clips(
    sources: Iterable[str], signatures: npt.NDArray[np.uint8], max_distance: float | None
) -> Indices:
    """Number the group of each of ``N`` clips, from 0 in order of first appearance.

    Args:
        sources: the clips' source videos; clips of one source are always one group.
        signatures: uint8 ``N L``, one a row (`signature.signature`).
        max_distance: largest distance that joins two clips; None joins by source alone.
    """
    numbers = number_sources(sources)
    if max_distance is None:
        return numbers
    return join_pairs(numbers, near_pairs(signatures, max_distance, numbers))


def number_sources(sources: Iterable[str]) -> Indices:
    """Number the sources from 0 in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in sources], dtype=np.int64)


def join_pairs(sources: Indices, pairs: NearPairs) -> Indices:
    """Number the groups that the pairs make of the numbered sources, as `group_clips` does."""
    count = int(sources.max(initial=-1)) + 1
    label = components(count, sources[pairs.first], sources[pairs.second])
    # A group's label is its first source, so their order is that of first appearance.
    return np.asarray(np.unique(label[sources], return_inverse=True)[1], dtype=np.int64)
