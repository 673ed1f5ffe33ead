"""How much two clips' pictures differ, where one lies in the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.data.duplicates import pictures
from kinetoscope.data.duplicates.alignment import CELLS
from kinetoscope.data.duplicates.pictures import MIN_CONTRAST, Pictures

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.duplicates.candidates import Candidates
    from kinetoscope.data.duplicates.pictures import Floats, Planes

_CHROMA_CELLS = 6
# A difference of colour counts more: some objects differ from their ground by little else.
_CHROMA_WEIGHT = 2.0
# Where both pictures have edges, a window that is off by a hair makes a difference.
_EDGE_TOLERANCE = 4.0
_BLOCKS, _DETAIL = 4, 0.12


def distances(records: npt.NDArray[np.void], pairs: Candidates) -> Floats:
    """Return how much the inner picture differs from the outer one's window, at the worst place.

    Pictures are centred and divided by their contrast, so that brightness and contrast don't
    count, and compared in a grid of cells. The distance is that of the cell that differs most,
    averaged over the frames: an object more or less makes two clips distinct, whatever else they
    have in common. 0 for equal pictures; 1 means off by the picture's contrast.
    """
    outer = Pictures.of(records[pairs.outer])
    inner = Pictures.of(records[pairs.inner], pairs.mirrored)
    seen, own = _both(outer.luma, inner.luma, pairs.window, CELLS)
    colors = _both(outer.chroma, inner.chroma, pairs.window, _CHROMA_CELLS)
    color = colors[0] / pictures.contrast(seen) - colors[1] / pictures.contrast(own)
    color = color[:, ::2] ** 2 + color[:, 1::2] ** 2
    finer = CELLS // _CHROMA_CELLS
    seen, own = pictures.standard(seen), pictures.standard(own)
    square = (seen - own) ** 2
    square += _CHROMA_WEIGHT * color.repeat(finer, axis=2).repeat(finer, axis=3)
    square /= 1 + _EDGE_TOLERANCE * np.minimum(_variance(seen), _variance(own))
    worst = np.sqrt(square.max(axis=(2, 3)))
    return np.asarray(worst.mean(axis=1), dtype=np.float64)


def detailed(records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Tell which clips show some detail in at least half of the picture.

    Of the others a crop can't be told: a spot on a plain ground looks like a part of any picture
    of a spot.
    """
    luma = records["luma"].astype(np.float32)
    side = luma.shape[-1] // _BLOCKS
    blocks = luma.reshape(*luma.shape[:2], _BLOCKS, side, _BLOCKS, side).std(axis=(3, 5))
    least = np.maximum(_DETAIL * luma.std(axis=(1, 2, 3)), MIN_CONTRAST)
    share = (blocks > least[:, None, None, None]).mean(axis=(1, 2, 3))
    return np.asarray(share >= 1 / 2)


def _both(outer: Planes, inner: Planes, window: Floats, cells: int) -> tuple[Planes, Planes]:
    """Return the window and the inner picture in the same cells, one as sharp as the other."""
    side = outer.shape[-1]
    seen = pictures.look(outer, window, cells, 1 / cells)
    # A pixel of the outer picture is a larger part of a small window: its blur, and that of the
    # cells, add up as variances do.
    pixel = 1 / (side * window[:, 2:])
    blur = pixel**2 + np.maximum(1 / cells, pixel) ** 2 - 1 / side**2
    width = np.sqrt(np.maximum(blur, 1 / cells**2))
    return seen, pictures.look(inner, pictures.whole(len(window)), cells, width)


def _variance(cells: Planes) -> Planes:
    """Return the variance of each cell and its eight neighbours."""
    variance = _mean(cells**2) - _mean(cells) ** 2
    return np.asarray(np.maximum(variance, 0), dtype=np.float32)


def _mean(cells: Planes) -> Planes:
    padded = np.pad(cells, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    return np.asarray((rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9, dtype=np.float32)
