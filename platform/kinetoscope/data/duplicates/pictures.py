"""The small pictures of clips, and windows of them seen through a grid of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Planes = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

MIN_CONTRAST = 2.0
"""Standard deviation, in levels of 0..255, below which a picture shows nothing but noise."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Brightness ``P F S S`` and colour ``P 2F C C`` (0 is without) of ``P`` clips' frames."""

    luma: Planes
    chroma: Planes

    @classmethod
    def of(
        cls, records: npt.NDArray[np.void], mirrored: npt.NDArray[np.bool_] | None = None
    ) -> Pictures:
        """Take the pictures from signatures, and mirror some."""
        luma = records["luma"].astype(np.float32)
        chroma = records["chroma"].astype(np.float32) - 128
        clips, frames, colors, *sides = chroma.shape
        chroma = chroma.reshape(clips, frames * colors, *sides)
        if mirrored is not None:
            luma[mirrored] = luma[mirrored][..., ::-1]
            chroma[mirrored] = chroma[mirrored][..., ::-1]
        return cls(luma, chroma)


def look(planes: Planes, window: Floats, cells: int, width: float | Floats) -> Planes:
    """Average ``P F S S`` in the cells of a window: ``P F cells cells``.

    Args:
        planes: what is looked at.
        window: ``P 4``, see `candidates.Candidates`.
        cells: along each side.
        width: of what a cell averages, in shares of the window's; one, or ``P 2`` for (x, y).
    """
    return rows_and_columns(planes, *weights(planes, window, cells, width))


def weights(
    planes: Planes, window: Floats, cells: int, width: float | Floats, shift: float = 0.0
) -> tuple[Planes, Planes]:
    """Return ``P cells S``, for x and for y: each pixel's share in each cell's average.

    ``shift`` moves the cells by so many pixels. Beyond its edge a picture goes on as at the edge.
    """
    side = planes.shape[-1]
    window = window.astype(np.float32)
    widths = np.broadcast_to(np.asarray(width, np.float32), (len(window), 2))
    along = ((np.arange(cells) + 0.5) / cells - 0.5).astype(np.float32)
    both = []
    for axis in (0, 1):
        size = window[:, 2 + axis, None]
        middle = np.clip((window[:, axis, None] + size * along) * side + shift, 0.5, side - 0.5)
        # Of a pixel or less: then the average is what linear interpolation gives.
        half = np.maximum(widths[:, axis, None] * size * side, 1.0)[..., None] / 2
        low, high = middle[..., None] - half, middle[..., None] + half
        pixel = np.arange(side, dtype=np.float32)
        overlap = np.maximum(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0)
        both.append(overlap / overlap.sum(axis=-1, keepdims=True))
    return both[0], both[1]


def rows_and_columns(planes: Planes, x: Planes, y: Planes) -> Planes:
    """Apply the weights along x and along y."""
    return np.asarray(y[:, None] @ planes @ x[:, None].swapaxes(-1, -2), dtype=np.float32)


def contrast(luma: Planes) -> Planes:
    """Return the brightness' standard deviation over all frames, ``P 1 1 1``."""
    spread = luma.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray(np.maximum(spread, MIN_CONTRAST), dtype=np.float32)


def standard(luma: Planes) -> Planes:
    """Centre the brightness of each clip and divide it by its contrast."""
    return np.asarray(
        (luma - luma.mean(axis=(1, 2, 3), keepdims=True)) / contrast(luma), dtype=np.float32
    )


def whole(count: int) -> Floats:
    """Return ``count`` windows that are the whole picture."""
    return np.tile([0.5, 0.5, 1.0, 1.0], (count, 1))
