"""Pairs of clips with a hash nearly in common, and how one picture lies in the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from kinetoscope.data.duplicates.hash_index import near_hashes
from kinetoscope.data.duplicates.hashes import (
    FRAME_BITS,
    NUM_REGIONS,
    REGION_BITS,
    mirrored_hashes,
)
from kinetoscope.data.duplicates.runs import run_starts
from kinetoscope.data.duplicates.signature import NUM_FRAMES

if TYPE_CHECKING:
    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

# A hash shared by more clips proposes each with this many of them only: a logo that all clips of a
# channel bear must not propose all pairs. Clips that do show the same still join, in a chain.
_MAX_PARTNERS = 8
_MAX_GUESSES = 3
# Of the outer picture's side, what a crop may leave of it; a guess may be off by some.
_MIN_COVER, _MAX_COVER, _OVERHANG = 0.4, 1.1, 0.1


@dataclass(frozen=True, slots=True)
class Candidates:
    """Guesses that clip ``inner`` shows a window of clip ``outer``, ``P`` of each.

    Attributes:
        outer: rows of the clips that show more.
        inner: rows of the others.
        mirrored: whether the inner picture has to be mirrored to lie there.
        window: ``P 4``: centre x and y, width and height, in shares of the outer picture.
    """

    outer: Indices
    inner: Indices
    mirrored: npt.NDArray[np.bool_]
    window: Floats

    def __len__(self) -> int:
        return len(self.outer)

    def __getitem__(self, chosen: Any) -> Candidates:
        columns = (self.outer, self.inner, self.mirrored, self.window)
        return Candidates(*(column[chosen] for column in columns))


def alike_frames(records: npt.NDArray[np.void]) -> Candidates:
    """Propose clips of which frames look alike as wholes: the window is the whole picture."""
    one, other, turned = _matches(records["frame"], FRAME_BITS)
    per_clip = records["frame"].shape[1]
    clips = np.sort(np.stack([one // per_clip, other // per_clip]), axis=0)
    outer, inner, mirrored = np.unique(np.vstack([clips, turned]), axis=1)
    window = np.tile([0.5, 0.5, 1.0, 1.0], (len(outer), 1))
    return Candidates(outer, inner, mirrored.astype(bool), window)


def alike_regions(records: npt.NDArray[np.void]) -> Candidates:
    """Propose clips with a region in common such that one picture lies in the other."""
    regions = records["region"].reshape(len(records), NUM_FRAMES * NUM_REGIONS)
    one, other, turned = _matches(regions, REGION_BITS)
    places = records["place"].reshape(-1, 3) / 255.0
    sizes = np.repeat(records["size"] / 255.0, regions.shape[1], axis=0)
    window = _window(places[one], places[other], turned, sizes[one], sizes[other])
    back = window[:, 2] * window[:, 3] > 1
    outer, inner = np.where(back, other, one), np.where(back, one, other)
    window = _window(places[outer], places[inner], turned, sizes[outer], sizes[inner])
    found = Candidates(outer // regions.shape[1], inner // regions.shape[1], turned, window)
    possible = _lies_inside(window)
    return _largest(found[possible], places[inner[possible], 2])


def _matches(
    hashes: npt.NDArray[np.uint64], bits: int
) -> tuple[Indices, Indices, npt.NDArray[np.bool_]]:
    """Return pairs of flat places in ``N K`` hashes of different clips that are nearly equal.

    The third column says whether they are when one of the two is mirrored.
    """
    flat, per_clip = hashes.ravel(), hashes.shape[1]
    used = np.flatnonzero(flat)
    values = np.concatenate([flat[used], mirrored_hashes(flat[used], bits)])
    place = np.concatenate([used, used])
    turned = np.arange(len(values)) >= len(used)
    order = np.lexsort((place, turned, values))
    # A hash that a still clip has in each frame counts once.
    clip = place // per_clip
    order = order[run_starts(values[order], turned[order], clip[order])]
    one, other = _entries(values[order], bits)
    one, other = order[one], order[other]
    # Two mirrored ones are met again as two that are not.
    kept = (clip[one] != clip[other]) & ~(turned[one] & turned[other])
    one, other = one[kept], other[kept]
    return place[one], place[other], turned[one] ^ turned[other]


def _entries(values: npt.NDArray[np.uint64], bits: int) -> tuple[Indices, Indices]:
    """Return pairs of places in sorted hashes that are equal or near."""
    unique, start, count = np.unique(values, return_index=True, return_counts=True)
    first, second = near_hashes(unique, bits=bits)
    ones, others = [], []
    for step in range(1, _MAX_PARTNERS + 1):
        places = np.flatnonzero(values[:-step] == values[step:])
        ones.append(places)
        others.append(places + step)
    for i, j in product(range(_MAX_PARTNERS), repeat=2):
        both = (count[first] > i) & (count[second] > j)
        ones.append(start[first[both]] + i)
        others.append(start[second[both]] + j)
    return np.concatenate(ones), np.concatenate(others)


def _window(
    outer: Floats, inner: Floats, turned: npt.NDArray[np.bool_], height_width: Floats, size: Floats
) -> Floats:
    """Return where the inner picture lies, from a region's place in both.

    Args:
        outer: ``P 3``: the region's centre and side in the outer picture.
        inner: the same in the inner one.
        turned: whether the inner one is mirrored.
        height_width: ``P 2`` of the outer picture.
        size: the same of the inner one.
    """
    ratio = outer[:, 2:] / np.maximum(inner[:, 2:], 1e-9)
    cover = (ratio * size / height_width)[:, ::-1]
    x = np.where(turned, 1 - inner[:, 0], inner[:, 0])
    center = outer[:, :2] + (0.5 - np.stack([x, inner[:, 1]], axis=1)) * cover
    return np.hstack([center, cover])


def _lies_inside(window: Floats) -> npt.NDArray[np.bool_]:
    center, cover = window[:, :2], window[:, 2:]
    sized = (cover >= _MIN_COVER) & (cover <= _MAX_COVER)
    inside = (center - cover / 2 >= -_OVERHANG) & (center + cover / 2 <= 1 + _OVERHANG)
    return np.asarray((sized & inside).all(axis=1))


def _largest(found: Candidates, side: Floats) -> Candidates:
    """Keep a few guesses of each pair: the larger the region, the surer its window."""
    order = np.lexsort((-side, found.mirrored, found.inner, found.outer))
    found = found[order]
    begins = run_starts(found.outer, found.inner, found.mirrored)
    places = np.arange(len(found))
    rank = places - np.maximum.accumulate(np.where(begins, places, 0))
    return found[rank < _MAX_GUESSES]
