"""Near-duplicate clips: a perceptual signature per clip, and groups of clips that show the same.

A signature holds a few frames of a clip at 16x16 brightness and 8x8 colour. Two clips' distance is
the RMS difference of their signatures after each is centred and divided by its own contrast, so
that another encode, size, brightness or contrast changes it little: 0 for equal clips, about 1.4
for unrelated ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_LUMA_SIDE, _CHROMA_SIDE = 16, 8
# Contrast below this (levels of 0..255) is noise: without a floor, flat clips differ by it alone.
_MIN_CONTRAST = 4.0
_BLOCK = 512


def signature(frames: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return a clip's signature from a few RGB frames ``H W C`` of any size."""
    parts = []
    for frame in frames:
        planes = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb), dtype=np.uint8)
        parts.append(_grid(planes[..., 0], _LUMA_SIDE))
        parts.extend(_grid(planes[..., i], _CHROMA_SIDE) for i in (1, 2))
    return np.concatenate(parts)


def normalize(signatures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Turn signatures, one a row, into vectors whose Euclidean distance is the clips' distance."""
    values = signatures.astype(np.float64)
    luma = _luma_columns(values.shape[1])
    mean = values[:, luma].mean(axis=1, keepdims=True)
    contrast = np.maximum(values[:, luma].std(axis=1, keepdims=True), _MIN_CONTRAST)
    # 128 is the colour planes' zero: what has no colour must not be given one.
    values = np.where(luma, values - mean, values - 128.0) / contrast
    return np.asarray(values / np.sqrt(luma.sum()), dtype=np.float32)


def near_pairs(vectors: npt.NDArray[np.float32], max_distance: float) -> Iterator[tuple[int, int]]:
    """Yield all pairs of rows at most ``max_distance`` apart.

    Exact. Rows are sorted along their first principal direction; since a projection never exceeds
    the distance, only rows within ``max_distance`` along it are compared, in blocks of matrix
    products.
    """
    if len(vectors) < 2:  # noqa: PLR2004 (a pair)
        return
    centered = vectors - vectors.mean(axis=0)
    direction = np.linalg.eigh(centered.T @ centered)[1][:, -1]
    position = centered @ direction
    order = np.argsort(position, kind="stable")
    ordered, position = centered[order], position[order]
    squares = np.einsum("nd,nd->n", ordered, ordered)
    # Rounding of float32 must not lose a pair at the edge of the window.
    ends = np.searchsorted(position, position + max_distance * 1.001 + 1e-5, side="right")
    for start in range(0, len(ordered), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(ordered)))
        columns = slice(start, int(ends[rows].max()))
        product = ordered[rows] @ ordered[columns].T
        distance = squares[rows, None] + squares[None, columns] - 2 * product
        for i, j in np.argwhere(distance <= max_distance**2):
            if i < j:
                yield int(order[start + i]), int(order[start + j])


def group_clips(
    sources: Sequence[str], vectors: npt.NDArray[np.float32], max_distance: float | None
) -> list[int]:
    """Number the group of every clip, from 0 in order of first appearance.

    Args:
        sources: the clips' source videos; clips of one source are always one group.
        vectors: normalised signatures, one a row.
        max_distance: largest distance that joins two clips; None joins by source alone.
    """
    parent = list(range(len(sources)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for index, source in enumerate(sources):
        parent[index] = first.setdefault(source, index)
    if max_distance is not None:
        for i, j in near_pairs(vectors, max_distance):
            a, b = root(i), root(j)
            parent[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(index), len(numbers)) for index in range(len(sources))]


def _luma_columns(width: int) -> npt.NDArray[np.bool_]:
    frame = np.zeros(_LUMA_SIDE**2 + 2 * _CHROMA_SIDE**2, dtype=bool)
    frame[: _LUMA_SIDE**2] = True
    return np.tile(frame, width // len(frame))


def _grid(plane: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    resized = cv2.resize(np.ascontiguousarray(plane), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8).ravel()
