from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from kinetoscope.data.prepare.scorers.motion import WORKING_SIDE_PX, flow_magnitude
from kinetoscope.data.prepare.scorers.quality import technical_quality

Gray = np.ndarray


def texture(height: int = 144, width: int = 256) -> Gray:
    noise = np.random.default_rng(0).integers(0, 255, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return cv2.normalize(smooth, np.zeros(1), 10, 245, cv2.NORM_MINMAX).astype(np.uint8)


def test_equal_frames_have_no_flow() -> None:
    assert flow_magnitude(texture(), texture()) == 0.0


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_flow_is_the_shift_in_pixels(shift: int) -> None:
    image = texture()
    assert flow_magnitude(image, np.roll(image, shift, axis=1)) == pytest.approx(shift, rel=0.25)


def test_flow_does_not_depend_on_the_frame_size() -> None:
    large = texture(WORKING_SIDE_PX, WORKING_SIDE_PX)
    moved = np.roll(large, 4, axis=0)
    small, small_moved = (
        cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA) for image in (large, moved)
    )
    full = flow_magnitude(large, moved)
    half = flow_magnitude(small.astype(np.uint8), small_moved.astype(np.uint8))
    assert half == pytest.approx(full, rel=0.2)


def test_tiny_frames_are_scored() -> None:
    image = texture(16, 16)
    assert flow_magnitude(image, np.roll(image, 1, axis=1)) > 0


@pytest.mark.parametrize(
    "worsen",
    [
        lambda image: cv2.GaussianBlur(image, (0, 0), 4),
        lambda image: (image.astype(float) * 0.1 + 110).astype(np.uint8),
        lambda image: np.where(image > 100, 255, image // 3).astype(np.uint8),
    ],
    ids=["blurred", "flat", "overexposed"],
)
def test_worse_frames_score_lower(worsen: Callable[[Gray], Gray]) -> None:
    good = np.kron(texture(36, 64), np.ones((4, 4), np.uint8))
    assert technical_quality(worsen(good)) < technical_quality(good) - 0.05


def test_quality_lies_between_zero_and_one() -> None:
    checkers = (np.indices((32, 32)).sum(0) % 2 * 200 + 20).astype(np.uint8)
    assert technical_quality(np.zeros((32, 32), np.uint8)) == 0.0
    assert 0.99 < technical_quality(checkers) <= 1.0
