from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetoscope.data.config import ScenesConfig, SynthConfig
from kinetoscope.data.shots.scenes import Scene, SceneCutter
from kinetoscope.data.synthetic.draw import synthesize

Image = npt.NDArray[np.uint8]
BLACK = np.zeros((72, 128, 3), np.uint8)


def picture(seed: int, width: int = 128) -> Image:
    """Paint clouds in two colours, 72 pixels high, with grain."""
    rng = np.random.default_rng(seed)
    clouds = rng.normal(size=(9, width // 8)).astype(np.float32)
    share = 1 / (1 + np.exp(-2 * cv2.resize(clouds, (width, 72), interpolation=cv2.INTER_CUBIC)))
    dark, bright = rng.uniform(0, 255, (2, 3))
    image = share[..., None] * bright + (1 - share[..., None]) * dark
    return np.asarray(np.clip(image + rng.normal(0, 6, image.shape), 0, 255), dtype=np.uint8)


def mix(before: Image, after: Image, length: int) -> list[Image]:
    """Go over from one picture to another in frames that show both."""
    shares = (np.arange(length) + 1) / (length + 1)
    mixes = [(1 - share) * before + share * after for share in shares]
    return [np.asarray(np.rint(image), dtype=np.uint8) for image in mixes]


def cut(frames: list[Image], config: ScenesConfig | None = None) -> list[Scene]:
    cutter = SceneCutter(config or ScenesConfig())
    for frame in frames:
        cutter.push(frame)
    return cutter.scenes()


def stills(lengths: list[int]) -> list[Image]:
    return [image for seed, length in enumerate(lengths) for image in [picture(seed)] * length]


def test_cuts_are_at_exact_frames() -> None:
    found = cut(stills([23, 31, 40]))
    assert found == [Scene(0, 23, 0), Scene(23, 54, 1), Scene(54, 94, 2)]


def test_cutting_can_be_switched_off() -> None:
    assert cut(stills([20, 20]), ScenesConfig(enabled=False)) == [Scene(0, 40)]


def test_a_scene_is_at_least_the_minimum_long() -> None:
    found = cut(stills([30, 5, 30]), ScenesConfig(min_scene_frames=10))
    assert found == [Scene(0, 30, 0), Scene(30, 65, 1)]


def test_no_frames_give_no_scene() -> None:
    assert SceneCutter(ScenesConfig()).scenes() == []


@pytest.mark.parametrize("size", [(1, 1, 3), (1, 9, 3), (72, 128, 3)])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 6])
def test_a_few_frames_of_any_size_are_one_scene(
    size: tuple[int, int, int], num_frames: int
) -> None:
    assert cut([np.zeros(size, np.uint8)] * num_frames) == [Scene(0, num_frames)]


@pytest.mark.parametrize("length", [8, 15, 24, 48])
def test_frames_of_a_dissolve_belong_to_no_scene(length: int) -> None:
    one, other = picture(0), picture(1)
    found = cut([one] * 30 + mix(one, other, length) + [other] * 30)
    assert [scene.shot for scene in found] == [0, 1]
    assert (found[0].start, found[1].end) == (0, 60 + length)
    assert found[0].end == pytest.approx(30, abs=1)
    assert found[1].start == pytest.approx(30 + length, abs=1)


def test_a_dissolve_between_moving_pictures_is_found() -> None:
    worlds = picture(2, 512), picture(3, 512)
    views = [[world[:, x : x + 128] for x in range(90)] for world in worlds]
    both = [mix(a, b, 20)[i] for i, (a, b) in enumerate(zip(views[0][40:], views[1][:20]))]  # noqa: B905 (to the shorter)
    found = cut(views[0][:40] + both + views[1][20:])
    assert [scene.shot for scene in found] == [0, 1]
    assert found[0].end == pytest.approx(40, abs=3)
    assert found[1].start == pytest.approx(60, abs=3)


@pytest.mark.parametrize("color", [0, 255])
def test_fades_and_what_is_black_or_white_between_them_belong_to_no_scene(color: int) -> None:
    one, other, even = picture(0), picture(1), np.full_like(BLACK, color)
    found = cut([one] * 25 + mix(one, even, 12) + [even] * 7 + mix(even, other, 16) + [other] * 25)
    assert [scene.shot for scene in found] == [0, 1]
    assert found[0].end == pytest.approx(25, abs=2)
    assert found[1].start == pytest.approx(60, abs=2)


def test_a_video_may_begin_and_end_in_black() -> None:
    image = picture(0)
    found = cut(
        [BLACK] * 9 + mix(BLACK, image, 12) + [image] * 30 + mix(image, BLACK, 20) + [BLACK] * 3
    )
    assert len(found) == 1
    assert found[0].start == pytest.approx(21, abs=2)
    assert found[0].end == pytest.approx(51, abs=2)


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(length: int) -> None:
    image, white = picture(0), np.full_like(BLACK, 255)
    assert cut([image] * 30 + [white] * length + [image] * 30) == [Scene(0, 60 + length)]


def test_a_flash_that_dies_away_is_no_cut() -> None:
    image, white = picture(0), np.full_like(BLACK, 255)
    assert cut([image] * 30 + [white] + mix(white, image, 1) + [image] * 30) == [Scene(0, 62)]


def test_a_cut_beside_a_flash_is_found() -> None:
    one, other, white = picture(0), picture(1), np.full_like(BLACK, 255)
    found = cut([one] * 25 + [white] + [one] * 3 + [other] * 30)
    assert found == [Scene(0, 29, 0), Scene(29, 59, 1)]


@pytest.mark.parametrize("pixels", [0, 1, 3, 8])
def test_a_pan_is_one_scene(pixels: int) -> None:
    world = picture(4, 1024)
    assert cut([world[:, pixels * i : pixels * i + 128] for i in range(100)]) == [Scene(0, 100)]


def test_a_cut_within_a_pan_is_found() -> None:
    one, other = picture(4, 512), picture(5, 512)
    views = [world[:, 4 * i : 4 * i + 128] for world in (one, other) for i in range(40)]
    assert cut(views) == [Scene(0, 40, 0), Scene(40, 80, 1)]


@pytest.mark.parametrize(("num_clips", "num_frames"), [(40, 17), (12, 65)])
def test_the_synthetic_clips_have_no_cuts(tmp_path: Path, num_clips: int, num_frames: int) -> None:
    config = SynthConfig(num_clips=num_clips, num_frames=num_frames, seed=1)
    for path in synthesize(tmp_path, config):
        with av.open(str(path)) as container:
            images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert cut([np.asarray(image, dtype=np.uint8) for image in images]) == [
            Scene(0, num_frames)
        ]


def test_a_title_fades() -> None:
    title = BLACK.copy()
    cv2.putText(title, "TITLE", (20, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 3)
    found = cut([title] * 30 + mix(title, BLACK, 15) + [BLACK] * 10)
    assert len(found) == 1
    assert found[0].end == pytest.approx(30, abs=2)


def test_light_that_changes_slowly_is_no_transition() -> None:
    image = picture(0).astype(np.float64)
    frames = [np.asarray(image * gain, dtype=np.uint8) for gain in np.linspace(1, 0.6, 80)]
    assert cut(frames) == [Scene(0, 80)]


def test_noise_is_no_cut() -> None:
    rng = np.random.default_rng(0)
    image = picture(0)
    frames = [np.clip(image + rng.normal(0, 25, image.shape), 0, 255) for _ in range(60)]
    assert cut([np.asarray(frame, dtype=np.uint8) for frame in frames]) == [Scene(0, 60)]


def test_equal_frames_give_equal_scenes() -> None:
    frames = [*stills([20, 30]), *mix(picture(1), picture(2), 20), *[picture(2)] * 20]
    assert cut(frames) == cut(frames)


def test_a_frame_costs_a_few_hundred_bytes() -> None:
    image, cutter = picture(0), SceneCutter(ScenesConfig())
    cutter.push(image)
    tracemalloc.start()
    for _ in range(2000):
        cutter.push(image)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept / 2000 < 300


@settings(max_examples=20, deadline=None)
@given(num_frames=st.integers(1, 60), longest=st.integers(1, 70))
def test_pieces_of_long_scenes_cover_all_frames_once(num_frames: int, longest: int) -> None:
    pieces = cut(
        [np.zeros((8, 8, 3), np.uint8)] * num_frames, ScenesConfig(max_scene_frames=longest)
    )
    assert pieces[0].start == 0
    assert pieces[-1].end == num_frames
    assert all(a.end == b.start for a, b in pairwise(pieces))
    assert max(piece.end - piece.start for piece in pieces) <= longest
