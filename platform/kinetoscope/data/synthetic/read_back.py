"""Reads shape, colour and motion back from the pixels of a clip of the synthetic set.

It knows nothing of how a clip was made: the ground is the clip's median colour, the object what
stands out from it. Per frame, the object's colour is the hue of its bright pixels, its shape the
share of its bounding box that it fills (circle pi/4, square 1, triangle 1/2), its place the
centroid. The clip's colour and shape come from the median over frames, its motion from the
displacement of the centroid over the clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from kinetoscope.data.synthetic.vocabulary import COLORS, GROUND

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.synthetic.vocabulary import Combination

    Frame = npt.NDArray[np.float64]

# An object stands out from the ground by more than this (of 441, the RGB cube's diagonal).
_SMALLEST_CONTRAST = 60.0
# Shares of the frame's area that an object can have.
_AREA = (0.015, 0.30)
# The largest connected piece holds this share of all that stands out; "compact" asks for more.
_MAIN_SHARE = 0.6
_COMPACT_SHARE = 0.9
_SMALLEST_SATURATION = 0.35
_LARGEST_HUE_ERROR_DEGREES = 40.0
# Fill of the bounding box: triangle 1/2 (measured up to 0.67, its tip being blurred by 4:2:0),
# circle pi/4 (0.76 to 0.82), square 1 (from 0.96); the borders lie between them.
_TRIANGLE_BELOW = 0.71
_SQUARE_ABOVE = 0.88
# Displacement over the clip as a share of the side: less is standing still.
_STILL_BELOW = 0.12
# The main direction has to exceed the other one by this factor.
_DOMINANCE = 1.5
# Shares of frames: with an object at all, and single frames that must be right for "strict".
_VISIBLE_SHARE = 0.6
_STRICT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class FrameReading:
    """What one frame shows.

    Attributes:
        rgb: mean colour of the object's bright pixels, 0..255.
        fill: share of the bounding box that the object covers.
        center: (y, x) of the centroid, as a share of height and width.
        compact: whether hardly anything else stands out.
    """

    rgb: tuple[float, float, float]
    fill: float
    center: tuple[float, float]
    compact: bool


@dataclass(frozen=True, slots=True)
class ClipReading:
    """What a clip shows; None where it can't be told."""

    shape: str | None
    color: str | None
    motion: str | None
    frames: tuple[FrameReading | None, ...]

    def to_json(self) -> dict[str, str | None]:
        """Return the three attributes."""
        return {"shape": self.shape, "color": self.color, "motion": self.motion}


def read_clip(frames: npt.NDArray[np.uint8]) -> ClipReading:
    """Read a clip.

    Args:
        frames: ``T H W 3``, RGB.
    """
    pixels = frames.astype(np.float64)
    ground = np.median(pixels.reshape(-1, 3), axis=0)
    readings = tuple(_read_frame(frame, ground) for frame in pixels)
    seen = [(index, reading) for index, reading in enumerate(readings) if reading]
    if len(seen) < _VISIBLE_SHARE * len(readings):
        return ClipReading(None, None, None, readings)
    rgb = np.median([reading.rgb for _, reading in seen], axis=0)
    fill = float(np.median([reading.fill for _, reading in seen]))
    times = [index for index, _ in seen]
    motion = _motion(times, [reading.center for _, reading in seen], len(readings))
    return ClipReading(name_shape(fill), name_color(rgb), motion, readings)


def score(reading: ClipReading, wanted: Combination) -> dict[str, bool]:
    """Compare with a prompt's combination.

    Returns:
        ``shape``, ``color``, ``motion``, ``all`` (these three), and ``strict``: all, and at least
        80 % of the single frames show one compact object of the right colour and shape.
    """
    right = {
        "shape": reading.shape == wanted.shape,
        "color": reading.color == wanted.color,
        "motion": reading.motion == wanted.motion,
    }
    right["all"] = all(right.values())
    good = [_is_good(frame, wanted) for frame in reading.frames]
    right["strict"] = right["all"] and sum(good) >= _STRICT_SHARE * len(good)
    return right


def name_color(rgb: npt.ArrayLike) -> str | None:
    """Return the vocabulary's colour of nearest hue, or None when none is near."""
    hue, saturation = _hue(np.asarray(rgb, dtype=np.float64))
    if saturation < _SMALLEST_SATURATION:
        return None
    errors = {}
    for name, value in COLORS.items():
        difference = abs(hue - _hue(np.asarray(value, dtype=np.float64))[0]) % 360
        errors[name] = min(difference, 360 - difference)
    best = min(errors, key=lambda name: errors[name])
    return best if errors[best] <= _LARGEST_HUE_ERROR_DEGREES else None


def name_shape(fill: float) -> str:
    """Return the shape that fills such a share of its bounding box."""
    if fill < _TRIANGLE_BELOW:
        return "triangle"
    return "square" if fill > _SQUARE_ABOVE else "circle"


def _is_good(frame: FrameReading | None, wanted: Combination) -> bool:
    return (
        frame is not None
        and frame.compact
        and name_color(frame.rgb) == wanted.color
        and name_shape(frame.fill) == wanted.shape
    )


def _read_frame(frame: Frame, ground: npt.NDArray[np.float64]) -> FrameReading | None:
    height, width = frame.shape[:2]
    contrast = np.linalg.norm(frame - ground, axis=-1)
    # The object covers more than 2 % of the frame: the 98th percentile lies inside it.
    peak = float(np.percentile(contrast, 98))
    if peak < _SMALLEST_CONTRAST:
        return None
    mask = (contrast > peak / 2).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    main = int(areas.argmax()) + 1
    area, total = int(areas.max()), int(areas.sum())
    if not _AREA[0] <= area / (height * width) <= _AREA[1] or area < _MAIN_SHARE * total:
        return None
    piece = labels == main
    bright = piece & (contrast >= np.percentile(contrast[piece], 40))
    rgb = frame[bright].mean(axis=0)
    cover = _cover(frame - ground, piece, rgb - ground)
    ys, xs = np.mgrid[:height, :width]
    weight = cover.sum()
    center = (
        (cover * (ys + 0.5)).sum() / weight / height,
        (cover * (xs + 0.5)).sum() / weight / width,
    )
    return FrameReading(
        rgb=(float(rgb[0]), float(rgb[1]), float(rgb[2])),
        fill=_fill(cover),
        center=(float(center[0]), float(center[1])),
        compact=area >= _COMPACT_SHARE * total,
    )


def _cover(
    relief: Frame, piece: npt.NDArray[np.bool_], color: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return how much of each pixel the object covers, 0..1, in and just around the piece."""
    near = cv2.dilate(piece.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    share = relief @ color / float(color @ color)
    return np.asarray(np.where(near, np.clip(share, 0.0, 1.0), 0.0))


def _fill(cover: npt.NDArray[np.float64]) -> float:
    width, height = cover.max(axis=0).sum(), cover.max(axis=1).sum()
    return float(cover.sum() / (width * height))


def _motion(times: list[int], centers: list[tuple[float, float]], num_frames: int) -> str | None:
    if len(times) < 2:  # noqa: PLR2004
        return None
    slopes = np.polyfit(times, np.array(centers), 1)[0]
    dy, dx = slopes * (num_frames - 1)
    if math.hypot(dy, dx) < _STILL_BELOW:
        return "still"
    if max(abs(dy), abs(dx)) < _DOMINANCE * min(abs(dy), abs(dx)):
        return None
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def _hue(rgb: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return hue in degrees and saturation 0..1 of a colour above the ground."""
    red, green, blue = (float(v) for v in np.clip(rgb - np.array(GROUND, np.float64), 0, None))
    high, low = max(red, green, blue), min(red, green, blue)
    if high <= 0:
        return 0.0, 0.0
    hue = math.degrees(math.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)) % 360
    return hue, (high - low) / high
