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
    Bytes = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float64]

# A hash shared by more clips proposes each with this many of them only: a logo that all clips of a
# channel bear must not propose all pairs. Clips that do show the same still join, in a chain.
_MAX_PARTNERS = 8
_MAX_GUESSES = 3
# Bits that may differ; of very many hashes fewer, or most candidates would come about by chance.
_RADIUS, _RADIUS_OF_MANY, _MANY = 3, 2, 2**24
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


def alike_frames(records: npt.NDArray[np.void], rows: Indices) -> Candidates:
    """Propose clips of which frames look alike as wholes: the window is the whole picture.

    Args:
        records: of signatures.
        rows: those to look at; their order decides which partners very common hashes get.
    """
    one, other, turned = _matches(records["frame"][rows], FRAME_BITS)
    clips = np.sort(np.stack([one // NUM_FRAMES, other // NUM_FRAMES]), axis=0)
    outer, inner, mirrored = np.unique(np.vstack([clips, turned]), axis=1)
    window = np.tile([0.5, 0.5, 1.0, 1.0], (len(outer), 1))
    return Candidates(rows[outer], rows[inner], mirrored.astype(bool), window)


def alike_regions(records: npt.NDArray[np.void], rows: Indices) -> Candidates:
    """Propose clips with a region in common such that one picture lies in the other."""
    per_clip = NUM_FRAMES * NUM_REGIONS
    hashes = records["region"][rows].reshape(len(rows), per_clip)
    one, other, turned = _matches(hashes, REGION_BITS)
    places, sizes = records["place"][rows].reshape(-1, 3), records["size"][rows]

    def window(outer: Indices, inner: Indices) -> Floats:
        size = sizes[outer // per_clip], sizes[inner // per_clip]
        return _window(places[outer], places[inner], turned, *size)

    back = window(one, other)[:, 2:].prod(axis=1) > 1
    outer, inner = np.where(back, other, one), np.where(back, one, other)
    found = Candidates(
        rows[outer // per_clip], rows[inner // per_clip], turned, window(outer, inner)
    )
    possible = _lies_inside(found.window)
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
    radius = _RADIUS if len(unique) < _MANY else _RADIUS_OF_MANY
    first, second = near_hashes(unique, radius, bits)
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
    outer: Bytes, inner: Bytes, turned: npt.NDArray[np.bool_], outer_size: Bytes, inner_size: Bytes
) -> Floats:
    """Return where the inner picture lies, from a region's place and the sizes in both.

    ``turned`` says of which the inner one is mirrored.
    """
    center, inner_center = outer[:, :2] / 255.0, inner[:, :2] / 255.0
    inner_center[:, 0] = np.where(turned, 1 - inner_center[:, 0], inner_center[:, 0])
    ratio = outer[:, 2:] / np.maximum(inner[:, 2:], 1)
    cover = (ratio * inner_size / outer_size)[:, ::-1]
    return np.hstack([center + (0.5 - inner_center) * cover, cover])


def _lies_inside(window: Floats) -> npt.NDArray[np.bool_]:
    center, cover = window[:, :2], window[:, 2:]
    sized = (cover >= _MIN_COVER) & (cover <= _MAX_COVER)
    inside = (center - cover / 2 >= -_OVERHANG) & (center + cover / 2 <= 1 + _OVERHANG)
    return np.asarray((sized & inside).all(axis=1))


def _largest(found: Candidates, side: Bytes) -> Candidates:
    """Keep a few guesses of each pair: the larger the region, the surer its window."""
    order = np.lexsort((~side, found.mirrored, found.inner, found.outer))
    found = found[order]
    begins = run_starts(found.outer, found.inner, found.mirrored)
    places = np.arange(len(found))
    rank = places - np.maximum.accumulate(np.where(begins, places, 0))
    return found[rank < _MAX_GUESSES]
