"""The tables of frame sizes: named resolutions, each with a size per aspect ratio.

Aspect ratios are height over width throughout. The numbers are Open-Sora 1.2's
(``opensora/datasets/aspect.py``, v1.2.0); its order is kept, since of two equally near ratios the
first is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from kinetoscope.data.plan.resolution_tables import resolution_tables

# A wanted ratio may lie this share beyond a table's ends, which are rounded.
_RATIO_TOLERANCE = 0.05

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]

NUM_FRAMES: Mapping[str, int] = MappingProxyType(
    {f"{2**k}x": 51 * 2**k for k in range(5)} | {f"{2**k}s": 51 * 2 ** (k - 1) for k in range(1, 6)}
)
"""Names of lengths and their frames: ``1x`` and ``2s`` are 51 frames, ``16x`` and ``32s`` 816."""


@dataclass(frozen=True)
class Resolution:
    """One table: sizes of about equal area.

    Attributes:
        name: e.g. ``240p``.
        num_pixels: height times width that the table aims at.
        keys: aspect ratios as text, e.g. ``0.56``, in the table's order.
        heights: in pixels, by ratio.
        widths: in pixels, by ratio.
    """

    name: str
    num_pixels: int
    keys: tuple[str, ...]
    heights: Int64s
    widths: Int64s

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """(height, width) in pixels by ratio, in the table's order."""
        pairs = zip(self.heights.tolist(), self.widths.tolist(), strict=True)
        return dict(zip(self.keys, pairs, strict=True))

    def nearest(self, ratio: npt.ArrayLike) -> Int64s:
        """Return where in ``keys`` the nearest ratio of each wanted one stands.

        Of two equally near ones it is the first of the table, exactly as
        ``min(keys, key=lambda key: abs(float(key) - ratio))`` decides.
        """
        order, bounds = self._search
        return order[np.searchsorted(bounds, ratio, side="left")]

    @cached_property
    def _search(self) -> tuple[Int64s, Float64s]:
        """The table's places by rising ratio, and the last float that each still is nearest to."""
        ratios = np.array([float(key) for key in self.keys])
        order = np.argsort(ratios, kind="stable")
        pairs = zip(order[:-1].tolist(), order[1:].tolist(), strict=True)
        bounds = [_last_nearer(ratios.tolist(), low, high) for low, high in pairs]
        return order, np.array(bounds, dtype=np.float64)


def _last_nearer(ratios: list[float], low: int, high: int) -> float:
    """Return the largest float that place ``low`` is nearer to than ``high``, by rounded distance.

    The rounded distances are monotonic, so the bound is a few floats from the midpoint.
    """

    def low_wins(ratio: float) -> bool:
        to_low, to_high = abs(ratio - ratios[low]), abs(ratio - ratios[high])
        return to_low < to_high or (to_low == to_high and low < high)

    bound = (ratios[low] + ratios[high]) / 2
    while not low_wins(bound):
        bound = math.nextafter(bound, -math.inf)
    while low_wins(following := math.nextafter(bound, math.inf)):
        bound = following
    return bound


def resolution_names() -> tuple[str, ...]:
    """Return the names of all tables, in the reference's order."""
    return tuple(resolution_tables())


@cache
def named_resolution(name: str) -> Resolution:
    """Return the table of a resolution.

    Raises:
        ValueError: no table has this name.
    """
    tables = resolution_tables()
    if name not in tables:
        raise ValueError(f"resolution {name!r} is none of {list(tables)}")
    entry = tables[name]
    sizes = np.array(list(entry["sizes"].values()), dtype=np.int64)
    return Resolution(name, entry["num_pixels"], tuple(entry["sizes"]), sizes[:, 0], sizes[:, 1])


def frame_size(resolution: str, aspect_ratio: str) -> tuple[int, int]:
    """Return (height, width) in pixels of a named resolution at an aspect ratio.

    Args:
        resolution: a name of the tables, e.g. ``240p``.
        aspect_ratio: ``height:width``, e.g. ``9:16``; the table's nearest ratio is taken.

    Raises:
        ValueError: no such resolution, no ratio, or one far beyond the table's ends.
    """
    table = named_resolution(resolution)
    ratio = parse_aspect_ratio(aspect_ratio)
    ratios = [float(key) for key in table.keys]
    if not min(ratios) * (1 - _RATIO_TOLERANCE) <= ratio <= max(ratios) * (1 + _RATIO_TOLERANCE):
        raise ValueError(
            f"aspect ratio {aspect_ratio!r} is {ratio:.3g}; resolution {resolution!r} has "
            f"{min(ratios):g} to {max(ratios):g} (height over width)"
        )
    return table.sizes[table.keys[int(table.nearest(ratio))]]


def parse_aspect_ratio(text: str) -> float:
    """Return height over width of a ratio such as ``9:16``.

    Raises:
        ValueError: the text is not two positive numbers with a colon between.
    """
    try:
        height, width = (float(part) for part in text.split(":"))
    except ValueError:
        height = width = math.nan
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise ValueError(f"aspect ratio {text!r} must be height:width, such as 9:16 or 1:1")
    return height / width


def parse_num_frames(length: str | float) -> int:
    """Return the frames of a length: a name of `NUM_FRAMES`, or the number itself.

    Raises:
        ValueError: neither a name nor a whole number of at least 1.
    """
    if isinstance(length, str) and length in NUM_FRAMES:
        return NUM_FRAMES[length]
    try:
        frames = int(length)
    except (ValueError, OverflowError):
        frames = 0
    if frames < 1 or (not isinstance(length, str) and frames != length):
        raise ValueError(
            f"length {length!r} must be a number of frames or one of {list(NUM_FRAMES)}"
        )
    return frames
