"""Draws the synthetic set: MP4 files and their captions."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.core.keys import generator
from kinetoscope.data.synthetic import vocabulary as shapes
from kinetoscope.data.video.files import write_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from kinetoscope.data.config import SynthConfig

CAPTIONS_FILE = "captions.csv"

# Fractions of the frame's side. The object passes the centre within _OFFSET at half time.
_RADIUS = (0.16, 0.21)
_OFFSET = 0.08
_TRAVEL = (0.40, 0.48)
# Antialiasing: samples per pixel and axis.
_SAMPLES = 4
# Nearly lossless: the colours of a few pixels have to survive yuv420p.
_CRF = 6


def synthesize(
    directory: Path, config: SynthConfig, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Write the set's MP4 files and ``captions.csv``, and return the files' paths.

    The same config always gives the same bytes. Files of other names are left alone.

    Args:
        directory: created when it does not exist.
        config: what to draw.
        progress: called with the number of clips written and to write.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rows, paths = [], []
    for index, combination in enumerate(combinations(config)):
        path = directory / f"clip-{index:05d}.mp4"
        write_video(path, draw(combination, config, index), config.fps, crf=_CRF)
        rows.append((path.name, combination.caption))
        paths.append(path)
        if progress is not None:
            progress(index + 1, config.num_clips)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("path", "text"), *rows])
    (directory / CAPTIONS_FILE).write_text(text.getvalue(), encoding="utf-8")
    return paths


def combinations(config: SynthConfig) -> Iterator[shapes.Combination]:
    """Yield what each clip shows: every combination that is not held out, equally often."""
    held_out = shapes.held_out_combinations(config.held_out, config.seed)
    shown = [item for item in shapes.ALL_COMBINATIONS if item not in held_out]
    order = generator("synth-order", config.seed).permutation(config.num_clips) % len(shown)
    for choice in order:
        yield shown[int(choice)]


def draw(combination: shapes.Combination, config: SynthConfig, index: int) -> npt.NDArray[np.uint8]:
    """Draw one clip as ``T H W C``; size, speed and place vary with (seed, index)."""
    rng = generator("synth-clip", config.seed, index)
    radius, travel = rng.uniform(*_RADIUS), rng.uniform(*_TRAVEL)
    middle = 0.5 + rng.uniform(-_OFFSET, _OFFSET, size=2)
    direction = np.array(shapes.MOTIONS[combination.motion])
    times = np.linspace(-0.5, 0.5, config.num_frames)
    centers = middle + times[:, None] * travel * direction
    frames = [_frame(combination, center, radius, config.size_px) for center in centers]
    return np.stack(frames)


def _frame(
    combination: shapes.Combination, center: npt.NDArray[np.float64], radius: float, size_px: int
) -> npt.NDArray[np.uint8]:
    grid = (np.arange(size_px * _SAMPLES) + 0.5) / (size_px * _SAMPLES)
    y, x = (grid[:, None] - center[0]) / radius, (grid[None, :] - center[1]) / radius
    inside = _inside(combination.shape, y, x).astype(np.float64)
    cover = inside.reshape(size_px, _SAMPLES, size_px, _SAMPLES).mean(axis=(1, 3))[..., None]
    color, ground = np.array(shapes.COLORS[combination.color]), np.array(shapes.GROUND)
    return np.asarray(np.rint(cover * color + (1 - cover) * ground), dtype=np.uint8)


def _inside(
    shape: str, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Which points (in units of the radius, broadcast) lie in the shape.

    Share of its bounding box that each shape fills: circle pi/4, square 1, triangle 1/2.
    """
    if shape == "circle":
        return np.asarray(y * y + x * x <= 1)
    if shape == "square":
        return np.asarray(np.maximum(abs(y), abs(x)) <= 0.88)  # noqa: PLR2004 (about a circle's area)
    return np.asarray((abs(y) <= 1) & (abs(x) <= (y + 1) / 2))
