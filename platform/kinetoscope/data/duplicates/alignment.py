"""Moves guessed windows to where the inner picture fits best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.data.duplicates import pictures
from kinetoscope.data.duplicates.pictures import Pictures
from kinetoscope.data.duplicates.runs import run_starts

if TYPE_CHECKING:
    import numpy.typing as npt

    from kinetoscope.data.duplicates.candidates import Candidates
    from kinetoscope.data.duplicates.pictures import Floats, Planes

CELLS = 12
# Widths of the cells in shares of the window, from rough to fine, and the steps taken with each.
_ROUGH, _FINE = ((1 / 4, 4),), ((1 / 8, 3), (1 / 12, 4))
# RMS difference of rough pictures above which the guess was wrong (1.4: nothing in common).
_MAX_ROUGH = 0.6
_DAMPING = 1e-3
_SIZES = (0.3, 1.2)


def align(records: npt.NDArray[np.void], guesses: Candidates) -> Candidates:
    """Move windows to where the brightness differs least, and keep the best guess of each pair.

    Guesses that don't fit even roughly are dropped.
    """
    moved, difference = _move(records, guesses, _ROUGH)
    order = np.lexsort((difference, moved.mirrored, moved.inner, moved.outer))
    moved, difference = moved[order], difference[order]
    best = run_starts(moved.outer, moved.inner, moved.mirrored)
    return _move(records, moved[best & (difference <= _MAX_ROUGH)], _FINE)[0]


def _move(
    records: npt.NDArray[np.void], guesses: Candidates, rounds: tuple[tuple[float, int], ...]
) -> tuple[Candidates, Floats]:
    """Take Gauss-Newton steps, over all frames of a clip at once.

    Baker and Matthews, "Lucas-Kanade 20 Years On: A Unifying Framework" (2004).

    Returns:
        The moved guesses, and the RMS difference before the last step.
    """
    if not len(guesses):
        return guesses, np.zeros(0)
    outer = Pictures.of(records[guesses.outer]).luma
    inner = Pictures.of(records[guesses.inner], guesses.mirrored).luma
    window, difference = guesses.window, np.zeros(len(guesses))
    for width, steps in rounds:
        target = pictures.look(inner, pictures.whole(len(window)), CELLS, width)
        target = pictures.standard(target)
        for _ in range(steps):
            move, difference = _step(outer, window, target, width)
            window = window + move
            window[:, :2] = np.clip(window[:, :2], 0, 1)
            window[:, 2:] = np.clip(window[:, 2:], *_SIZES)
    return replace(guesses, window=window), difference


def _step(luma: Planes, window: Floats, target: Planes, width: float) -> tuple[Floats, Floats]:
    """Return the change of (x, y, width, height) that brings the windows nearer to the target."""
    x, y = pictures.weights(luma, window, CELLS, width)
    before_x, before_y = pictures.weights(luma, window, CELLS, width, shift=-0.5)
    after_x, after_y = pictures.weights(luma, window, CELLS, width, shift=0.5)
    seen = pictures.rows_and_columns(luma, x, y)
    error = target - pictures.standard(seen)
    scale = luma.shape[-1] / pictures.contrast(seen)
    along_x = pictures.rows_and_columns(luma, after_x - before_x, y) * scale
    along_y = pictures.rows_and_columns(luma, x, after_y - before_y) * scale
    off = ((np.arange(CELLS) + 0.5) / CELLS - 0.5).astype(np.float32)
    slopes = np.stack([along_x, along_y, along_x * off, along_y * off[:, None]], axis=1)
    slopes = slopes.reshape(len(window), 4, -1)
    slopes -= slopes.mean(axis=2, keepdims=True)
    normal = (slopes @ slopes.swapaxes(1, 2)).astype(np.float64)
    size = np.trace(normal, axis1=1, axis2=2)[:, None, None]
    normal += np.eye(4) * (_DAMPING * size + 1e-6)
    pull = (slopes @ error.reshape(len(window), -1, 1)).astype(np.float64)
    difference = np.sqrt((error.astype(np.float64) ** 2).mean(axis=(1, 2, 3)))
    return np.linalg.solve(normal, pull)[..., 0], difference
