"""Clips side by side in one video, and clips enlarged for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinetoscope.data.video.display import Frames

_GAP_PX = 2
_GAP_LEVEL = 96


def tile(clips: Sequence[Frames], columns: int) -> Frames:
    """Return clips ``T H W C`` of one size in a grid, row by row; shorter ones hold their end."""
    num_frames = max(len(clip) for clip in clips)
    _, height, width, channels = clips[0].shape
    rows = -(-len(clips) // columns)
    cell = (height + _GAP_PX, width + _GAP_PX)
    size = (num_frames, rows * cell[0] + _GAP_PX, columns * cell[1] + _GAP_PX, channels)
    grid = np.full(size, _GAP_LEVEL, np.uint8)
    for index, clip in enumerate(clips):
        top, left = (
            _GAP_PX + place * side for place, side in zip(divmod(index, columns), cell, strict=True)
        )
        held = clip[np.minimum(np.arange(num_frames), len(clip) - 1)]
        grid[:, top : top + height, left : left + width] = held
    return grid


def enlarge(frames: Frames, height_px: int) -> Frames:
    """Scale ``T H W C`` up by the largest whole factor that keeps within a height, at least 1.

    Pixels stay squares: what a small model drew is shown, not what interpolation makes of it.
    """
    factor = max(1, height_px // frames.shape[1])
    size = (frames.shape[2] * factor, frames.shape[1] * factor)
    scaled = [cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST) for frame in frames]
    return even(np.stack(scaled).astype(np.uint8))


def even(frames: Frames) -> Frames:
    """Repeat the last row or column where height or width is odd, as yuv420p needs."""
    odd = (frames.shape[1] % 2, frames.shape[2] % 2)
    return np.pad(frames, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
