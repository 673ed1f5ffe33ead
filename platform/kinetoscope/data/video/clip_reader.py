"""Decoded, resized windows of clips, with a cache; and frames as pixels."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import cv2
import numpy as np
import torch
from torch import Tensor

from kinetoscope.core.units import MIB
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.video.display import Frames
from kinetoscope.data.video.files import decode_window
from kinetoscope.data.video.pixels import pixels_of

# A clip is decoded whole, for all its windows at once, when that fills no more of the cache.
_WHOLE_CLIP_SHARE = 64

_Key = tuple[int, int, int, int, int, float, float]


class ClipReader:
    """Reads windows of a table's clips.

    Small clips are decoded once and kept whole; of large ones only the asked window is decoded. The
    least recently used frames leave the cache first. Safe to use from several threads.

    Args:
        rows: the clips.
        cache_bytes: most bytes of decoded frames to keep; 0 keeps none.
    """

    def __init__(self, rows: ClipTable, *, cache_bytes: int = 512 * MIB) -> None:
        self._rows = rows
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[_Key, Frames] = OrderedDict()
        self._used_bytes = 0
        self._lock = Lock()

    def read(
        self,
        row: int,
        start: int,
        num_frames: int,
        *,
        size: tuple[int, int],
        crop: tuple[float, float] = (0.5, 0.5),
    ) -> Frames:
        """Return frames ``T H W C`` (RGB, uint8) of a clip; do not write into them.

        Each frame is scaled to cover ``size`` and cropped to it.

        Args:
            row: number of the clip in the table.
            start: first frame, counted from the clip's first.
            num_frames: T.
            size: (H, W) in pixels.
            crop: place of the crop as shares of the spare height and width; (0.5, 0.5) is central.

        Raises:
            DataError: the video has fewer frames than the table says, or can't be decoded.
        """
        length = int(self._rows.num_frames[row])
        if start < 0 or num_frames < 1 or start + num_frames > length:
            raise ValueError(
                f"frames {start} to {start + num_frames - 1} are not in clip "
                f"{self._rows.clip_id[row]} of {length} frames"
            )
        whole = length * size[0] * size[1] * 3 * _WHOLE_CLIP_SHARE <= self._cache_bytes
        first, count = (0, length) if whole else (start, num_frames)
        key = (row, first, count, *size, *crop)
        frames = self._get(key)
        if frames is None:
            frames = self._decode(row, first, count, size=size, crop=crop)
            self._put(key, frames)
        return frames[start - first : start - first + num_frames]

    def _decode(
        self, row: int, start: int, count: int, *, size: tuple[int, int], crop: tuple[float, float]
    ) -> Frames:
        video = self._rows.source_video(row)
        first = int(self._rows.start_frame[row]) + start
        images = decode_window(video, first, count)
        return np.stack([cover_and_crop(image, size, crop) for image in images])

    def _get(self, key: _Key) -> Frames | None:
        with self._lock:
            frames = self._cached.get(key)
            if frames is not None:
                self._cached.move_to_end(key)
            return frames

    def _put(self, key: _Key, frames: Frames) -> None:
        with self._lock:
            if key in self._cached or frames.nbytes > self._cache_bytes:
                return
            self._cached[key] = frames
            self._used_bytes += frames.nbytes
            while self._used_bytes > self._cache_bytes:
                _, oldest = self._cached.popitem(last=False)
                self._used_bytes -= oldest.nbytes


def cover_and_crop(image: Frames, size: tuple[int, int], crop: tuple[float, float]) -> Frames:
    """Scale an image ``H W C`` until it just covers ``size``, then crop it to that.

    Shrinking averages areas, enlarging is bilinear.
    """
    height, width = image.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    scaled = (max(round(height * scale), size[0]), max(round(width * scale), size[1]))
    if scaled != (height, width):
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(image, (scaled[1], scaled[0]), interpolation=method)
        image = np.asarray(resized, dtype=np.uint8)
    top = int((scaled[0] - size[0]) * crop[0])
    left = int((scaled[1] - size[1]) * crop[1])
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])


def to_pixels(frames: Frames) -> Tensor:
    """Return uint8 frames ``T H W C`` as floats ``C T H W`` in [-1, 1]."""
    return pixels_of(torch.from_numpy(frames))


def to_frames(pixels: Tensor) -> Frames:
    """Return floats ``C T H W`` in [-1, 1] (clipped) as uint8 frames ``T H W C``."""
    levels = pixels.detach().float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 3, 0).cpu().numpy())
