"""Perceptual hashes of a frame, and of the regions around its keypoints.

A hash holds the signs of the lowest frequencies of a region's discrete cosine transform (Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). Keypoints are those of
SIFT (Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", 2004): a crop keeps those
inside it, each with its surroundings. Mirroring flips the signs of the odd horizontal frequencies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

FRAME_BITS, REGION_BITS = 64, 44
"""Bits of the hashes; a region's small place leaves its higher frequencies to noise."""
NUM_REGIONS = 16
"""Most regions of a frame."""
WORKING_SIDE_PX = 96
"""Longer side of the picture in which keypoints are looked for."""
REGION_UNITS_PER_PX = 2
"""A region's side is kept in half pixels."""

_CELLS = 16
_REGION_SIDE = 6.0  # in diameters of the keypoint
_MIN_KEYPOINT_PX = 1.8
# Standard deviation (levels of 0..255) below which a region shows nothing but noise.
_MIN_CONTRAST = 2.0


def frame_hash(luma: npt.NDArray[np.uint8]) -> np.uint64:
    """Hash a frame ``H W``; 0 when it is flat."""
    height, width = luma.shape
    hashes = _hashes(luma, np.array([[0.0, 0.0, width, height]]), FRAME_BITS)
    return np.uint64(hashes[0])


def region_hashes(
    luma: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Hash the regions around a frame's clearest keypoints.

    Returns:
        Up to ``NUM_REGIONS`` hashes and as many places: centre (x, y) in 1/255 of the frame's
        width and height, and side in ``REGION_UNITS_PER_PX`` of the frame when its longer side
        measures ``WORKING_SIDE_PX``.
    """
    image = _working_size(luma)
    height, width = image.shape
    keypoints = _keypoints(image)
    centers, sides = keypoints[:, :2], keypoints[:, 2:] * _REGION_SIDE
    # The side is rounded first: what is hashed is what its place says.
    sides = np.rint(sides * REGION_UNITS_PER_PX) / REGION_UNITS_PER_PX
    hashes = _hashes(image, np.hstack([centers - sides / 2, sides, sides]), REGION_BITS)
    places = np.hstack([centers * 255 / (width, height), sides * REGION_UNITS_PER_PX])
    return hashes, np.rint(places).astype(np.uint8)


def mirrored_hashes(hashes: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint64]:
    """Return the hashes, of so many bits, that the mirrored pictures have."""
    odd = sum(1 << bit for bit, (u, _) in enumerate(_frequencies()[:bits]) if u % 2)
    return np.asarray(hashes ^ np.uint64(odd), dtype=np.uint64)


def _working_size(luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = luma.shape
    scale = WORKING_SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(luma, size, interpolation=interpolation), dtype=np.uint8)


def _keypoints(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return (x, y, diameter) in pixels of the clearest keypoints whose region lies inside."""
    detector = cv2.SIFT.create(nOctaveLayers=4, contrastThreshold=0.01, edgeThreshold=15)
    found = {(*point.pt, point.size): point.response for point in detector.detect(image)}
    if not found:
        return np.zeros((0, 3))
    points = np.array(list(found)) + np.array([0.5, 0.5, 0.0])
    weights = np.array(list(found.values())) * np.sqrt(points[:, 2])
    half = points[:, 2:] * _REGION_SIDE / 2
    inside = (points[:, :2] >= half) & (points[:, :2] <= np.array(image.shape[::-1]) - half)
    usable = inside.all(axis=1) & (points[:, 2] >= _MIN_KEYPOINT_PX)
    order = np.argsort(-weights[usable], kind="stable")
    return np.asarray(points[usable][order[:NUM_REGIONS]], dtype=np.float64)


def _hashes(
    luma: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float64], bits: int
) -> npt.NDArray[np.uint64]:
    """Hash the boxes (left, top, width, height in pixels) of a picture; 0 for flat ones."""
    cells = _cell_means(luma, boxes).reshape(len(boxes), _CELLS**2)
    signs = (cells @ _BASIS[:bits].T > 0).astype(np.uint64)
    hashes = (signs << np.arange(bits, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    return np.where(cells.std(axis=1) < _MIN_CONTRAST, np.uint64(0), hashes)


def _cell_means(
    luma: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Average the pixels, and parts of pixels, in each cell of each box."""
    height, width = luma.shape
    edges = np.arange(_CELLS + 1) / _CELLS
    x = np.clip(boxes[:, 0, None] + boxes[:, 2, None] * edges, 0, width)
    y = np.clip(boxes[:, 1, None] + boxes[:, 3, None] * edges, 0, height)
    column, row = np.minimum(x.astype(int), width - 1), np.minimum(y.astype(int), height - 1)
    right, below = (x - column)[:, None, :], (y - row)[:, :, None]
    integral = cv2.integral(luma, sdepth=cv2.CV_64F)

    def at(down: int, along: int) -> npt.NDArray[np.float64]:
        return np.asarray(integral[row[:, :, None] + down, column[:, None, :] + along])

    upper = at(0, 0) * (1 - right) + at(0, 1) * right
    lower = at(1, 0) * (1 - right) + at(1, 1) * right
    sums = np.diff(np.diff(upper * (1 - below) + lower * below, axis=1), axis=2)
    area = np.diff(y)[:, :, None] * np.diff(x)[:, None, :]
    return np.asarray(sums / np.maximum(area, 1e-9), dtype=np.float64)


def _frequencies() -> list[tuple[int, int]]:
    """Return the lowest (horizontal, vertical) frequencies but the mean, lowest first."""
    pairs = [(u, v) for u in range(_CELLS) for v in range(_CELLS) if u + v]
    return sorted(pairs, key=lambda pair: (sum(pair), max(pair), pair))[:FRAME_BITS]


def _basis() -> npt.NDArray[np.float64]:
    waves = np.cos(np.pi * np.arange(_CELLS)[:, None] * (np.arange(_CELLS) + 0.5) / _CELLS)
    return np.stack([np.outer(waves[v], waves[u]).ravel() for u, v in _frequencies()])


_BASIS = _basis()
