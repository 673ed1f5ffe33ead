"""What is kept of a clip to find its near-duplicates: small pictures and hashes of four frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from kinetoscope.data.duplicates.hashes import NUM_REGIONS, frame_hash, region_hashes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

NUM_FRAMES = 4
LUMA_SIDE, CHROMA_SIDE = 32, 16

SIGNATURE = np.dtype(
    [
        # Height and width of the picture, as fractions of its longer side in 1/255.
        ("size", np.uint8, (2,)),
        ("luma", np.uint8, (NUM_FRAMES, LUMA_SIDE, LUMA_SIDE)),
        # Cr and Cb, 128 is without colour.
        ("chroma", np.uint8, (NUM_FRAMES, 2, CHROMA_SIDE, CHROMA_SIDE)),
        # Hash of each frame and of its regions; 0: there is none.
        ("frame", "<u8", (NUM_FRAMES,)),
        ("region", "<u8", (NUM_FRAMES, NUM_REGIONS)),
        # Centre (x, y) and side of each region, see `hashes.region_hashes`.
        ("place", np.uint8, (NUM_FRAMES, NUM_REGIONS, 3)),
    ]
)
"""The fields of a signature, without gaps between them."""

# Luma up to here is black in a bar; compression leaves a few levels above 0.
_BLACK = 10
_STRAY_SHARE = 0.05
_MAX_BAR_SHARE = 0.26
_BAR_TOLERANCE_PX = 2


def signature(frames: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return a clip's signature: uint8 of ``SIGNATURE.itemsize`` bytes.

    Args:
        frames: ``NUM_FRAMES`` RGB frames ``H W C`` of one size, spread evenly over the clip.
    """
    stack = np.stack(frames)
    top, bottom, left, right = _picture(np.stack([_luma(frame) for frame in stack]))
    result = np.zeros(1, SIGNATURE)
    height, width = bottom - top, right - left
    result["size"] = np.rint(np.array([height, width]) * 255 / max(height, width))
    for index, frame in enumerate(stack[:, top:bottom, left:right]):
        planes = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb), dtype=np.uint8)
        luma = np.ascontiguousarray(planes[..., 0])
        result["luma"][0, index] = _grid(luma, LUMA_SIDE)
        result["chroma"][0, index] = [_grid(planes[..., i], CHROMA_SIDE) for i in (1, 2)]
        result["frame"][0, index] = frame_hash(luma)
        hashes, places = region_hashes(luma)
        result["region"][0, index, : len(hashes)] = hashes
        result["place"][0, index, : len(hashes)] = places
    return result.view(np.uint8)


def fields(signatures: npt.NDArray[np.uint8]) -> npt.NDArray[np.void]:
    """View signatures, one a row, as records of ``SIGNATURE``."""
    rows = np.ascontiguousarray(signatures, dtype=np.uint8).reshape(-1, SIGNATURE.itemsize)
    return rows.view(SIGNATURE)[:, 0]


def _luma(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _picture(luma: npt.NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of the picture between black bars.

    Bars come in pairs of equal width; anything else that is black belongs to the picture.
    """
    lit = luma.max(axis=0) > _BLACK
    top, bottom = _between_bars(lit.mean(axis=1) > _STRAY_SHARE)
    left, right = _between_bars(lit.mean(axis=0) > _STRAY_SHARE)
    return top, bottom, left, right


def _between_bars(lit: npt.NDArray[np.bool_]) -> tuple[int, int]:
    length = len(lit)
    if not lit.any():
        return 0, length
    before, after = int(lit.argmax()), int(lit[::-1].argmax())
    even = abs(before - after) <= _BAR_TOLERANCE_PX
    if not even or max(before, after) > _MAX_BAR_SHARE * length:
        return 0, length
    return before, length - after


def _grid(plane: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    resized = cv2.resize(np.ascontiguousarray(plane), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)
