"""All pairs of 64-bit hashes that differ in a few bits, without comparing each with each.

Hashes that differ in at most ``radius`` bits agree in all bits of ``blocks - radius`` of any
``blocks`` blocks (Manku, Jain and Das Sarma, "Detecting Near-Duplicates for Web Crawling", 2007).
So for each choice of that many blocks the hashes are sorted by those, and only neighbours that
agree there are compared. Nothing is lost, and nothing depends on order or threads.
"""

from __future__ import annotations

from itertools import combinations
from math import log2
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]


def near_hashes(
    hashes: npt.NDArray[np.uint64], radius: int = 3, bits: int = 64
) -> tuple[Indices, Indices]:
    """Return all pairs ``i < j`` of distinct hashes at most ``radius`` bits apart, in order.

    Takes 2 s for a million random hashes.

    Args:
        hashes: ``N``, each one once: collapse equal ones first (``np.unique``), or a hash shared by
            many would make a pair of each two.
        radius: most bits that may differ.
        bits: how many of the lowest bits are in use.
    """
    total = max(len(hashes), 1)
    codes = [np.zeros(0, np.int64)]
    for order, key in _sorted_by_blocks(hashes, radius, bits):
        for one, other in _neighbours(key):
            first, second = order[one], order[other]
            near = _bit_count(hashes[first] ^ hashes[second]) <= radius
            first, second = first[near], second[near]
            codes.append(np.minimum(first, second) * total + np.maximum(first, second))
    unique = np.unique(np.concatenate(codes))
    return unique // total, unique % total


def _sorted_by_blocks(
    hashes: npt.NDArray[np.uint64], radius: int, bits: int
) -> Iterator[tuple[Indices, npt.NDArray[np.uint64]]]:
    """Yield, for each choice of blocks, an order of the hashes and what they hold in the blocks."""
    blocks = radius + 1
    # As many as make chance agreements rarer than the hashes are many.
    while bits * (blocks - radius) / blocks < log2(max(len(hashes), 2)) and blocks < 2 * radius:
        blocks += 1
    # A block takes every n-th bit: neighbouring frequencies are noisy together.
    masks = [sum(1 << bit for bit in range(block, bits, blocks)) for block in range(blocks)]
    for chosen in combinations(masks, blocks - radius):
        key = hashes & np.uint64(sum(chosen))
        order = np.argsort(key, kind="stable")
        yield order, key[order]


def _neighbours(key: npt.NDArray[np.uint64]) -> Iterator[tuple[Indices, Indices]]:
    """Yield all pairs of places of a sorted array that hold the same, in pieces."""
    step, places = 1, np.arange(len(key))
    while len(places := places[places < len(key) - step]):
        places = places[key[places] == key[places + step]]
        yield places, places + step
        step += 1


def _bit_count(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Count the ones of each value, by halves (``np.bitwise_count`` is of numpy 2)."""
    one, two, four = (np.uint64(shift) for shift in (1, 2, 4))
    values = values - ((values >> one) & np.uint64(0x5555555555555555))
    pairs = np.uint64(0x3333333333333333)
    values = (values & pairs) + ((values >> two) & pairs)
    values = (values + (values >> four)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.asarray((values * np.uint64(0x0101010101010101)) >> np.uint64(56), dtype=np.uint64)
