"""Draws clips for benchmarks: objects that move through a scene while the camera pans."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

HEIGHT, WIDTH, NUM_FRAMES = 180, 320, 24

Clip = npt.NDArray[np.uint8]
"""RGB ``T H W C``."""


def rendered(scene: int, seed: int, times: Sequence[float] | None = None) -> Clip:
    """Draw the objects of a seed before the ground of a scene.

    Args:
        scene: seed of the ground and of how the camera pans.
        seed: of the objects: one to three, 14 to 26 % of the width wide.
        times: of the frames, in [0, 1]; ``NUM_FRAMES`` of them when None.
    """
    ground, pan = _ground(scene), np.random.default_rng([scene, 3]).uniform(0, 1, (2, 2))
    rng = np.random.default_rng([seed, 2])
    things = [
        (*rng.uniform(0.25, 0.75, 2), *rng.uniform(-0.3, 0.3, 2), rng.uniform(0.07, 0.13))
        for _ in range(rng.integers(1, 4))
    ]
    colors, square = rng.uniform(0, 255, (len(things), 3)), rng.integers(2, size=len(things))
    frames = []
    for at in np.linspace(0, 1, NUM_FRAMES) if times is None else times:
        y, x = ((pan[0] + (pan[1] - pan[0]) * at) * (HEIGHT // 4, WIDTH // 4)).astype(int)
        frame = ground[y : y + HEIGHT, x : x + WIDTH].copy()
        for (left, top, right, down, size), color, edged in zip(
            things, colors.tolist(), square, strict=True
        ):
            middle = np.array([left + right * (at - 0.5), top + down * (at - 0.5)])
            radius, center = int(size * WIDTH), (middle * (WIDTH, HEIGHT)).astype(int)
            if edged:
                low = (center - radius).tolist()
                cv2.rectangle(frame, low, (center + radius).tolist(), color, -1)
            else:
                cv2.circle(frame, center.tolist(), radius, color, -1, cv2.LINE_AA)
        frames.append(frame)
    return np.stack(frames)


def _ground(scene: int) -> Clip:
    """Draw clouds, polygons, or both, on 5/4 of a frame's height and width."""
    rng, (height, width) = np.random.default_rng([scene, 1]), (HEIGHT * 5 // 4, WIDTH * 5 // 4)
    image = np.full((height, width, 3), rng.uniform(0, 255, 3), np.float32)
    if scene % 3 != 2:  # noqa: PLR2004 (every third is plain)
        slope, clouds = rng.uniform(0.8, 1.4), np.zeros_like(image)
        for octave in range(7):
            cells = 3 * 2**octave
            noise = rng.normal(size=(max(2, cells * height // width), cells, 3))
            noise = noise.mean(axis=2, keepdims=True) + 0.4 * noise
            layer = cv2.resize(noise.astype(np.float32), (width, height))
            clouds += layer / cells**slope
        image = image * 0.5 + 64 + rng.uniform(30, 60) * clouds / clouds.std()
    for _ in range((0, 12, 30)[scene % 3]):
        middle, reach = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.04, 0.2) * width
        corners = (middle + reach * rng.uniform(-1, 1, (6, 2))).astype(np.int32)
        cv2.fillConvexPoly(image, cv2.convexHull(corners), rng.uniform(0, 255, 3).tolist())
    return np.clip(image, 0, 255).astype(np.uint8)
