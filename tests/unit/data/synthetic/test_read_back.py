"""The reader of shape, colour and motion, on real MP4s of the synthetic set and on what is none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from kinetoscope.data.config import SynthConfig
from kinetoscope.data.synthetic.draw import combinations, synthesize
from kinetoscope.data.synthetic.read_back import read_clip, score
from kinetoscope.data.synthetic.vocabulary import ALL_COMBINATIONS, Combination
from kinetoscope.data.video.files import read_video

Frames = npt.NDArray[np.uint8]
Clips = list[tuple[Frames, Combination]]

CONFIG = SynthConfig(num_clips=180, seed=11, held_out=0)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    paths: list[Path] = synthesize(tmp_path_factory.mktemp("synth"), CONFIG)
    shown = combinations(CONFIG)
    return [(read_video(path)[0], item) for path, item in zip(paths, shown, strict=True)]


def share(clips: Clips, name: str = "all") -> float:
    return float(np.mean([score(read_clip(frames), wanted)[name] for frames, wanted in clips]))


def blurred(frames: Frames) -> Frames:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 0.6) for frame in frames])


def test_ground_truth_scores_one_even_by_the_strict_measure(truth: Clips) -> None:
    assert {item for _, item in truth} == set(ALL_COMBINATIONS)
    assert share(truth, "strict") >= 0.99


def test_shuffled_captions_score_chance(truth: Clips) -> None:
    moved = [truth[(i * 7 + 5) % len(truth)][1] for i in range(len(truth))]
    assert share([(frames, item) for (frames, _), item in zip(truth, moved, strict=True)]) < 0.06


def test_slightly_blurred_dim_and_noisy_clips_still_read_right(truth: Clips) -> None:
    rng = np.random.default_rng(0)

    def spoil(frames: Frames) -> Frames:
        noise = rng.normal(0, 6, frames.shape)
        return np.clip(0.75 * blurred(frames) + noise, 0, 255).astype(np.uint8)

    assert share([(spoil(frames), item) for frames, item in truth]) >= 0.97


def test_noise_shows_nothing() -> None:
    rng = np.random.default_rng(1)
    uniform = rng.integers(0, 256, (17, 32, 32, 3)).astype(np.uint8)
    coarse = rng.normal(60, 90, (17, 8, 8, 3))
    smooth = np.stack([cv2.resize(f, (32, 32), interpolation=cv2.INTER_CUBIC) for f in coarse])
    for frames in (uniform, np.clip(smooth, 0, 255).astype(np.uint8)):
        assert read_clip(frames).to_json() == {"shape": None, "color": None, "motion": None}


def test_a_reversed_clip_moves_the_other_way(truth: Clips) -> None:
    frames, item = next(pair for pair in truth if pair[1].motion == "left")
    right = score(read_clip(frames[::-1]), item._replace(motion="right"))
    assert right["all"]
    assert not score(read_clip(frames[::-1]), item)["motion"]


def test_two_objects_are_not_strictly_right(truth: Clips) -> None:
    frames, item = next(pair for pair in truth if pair[1].motion == "still")
    doubled = frames.copy()
    doubled[:, :7, :7] = doubled.max(axis=(0, 1, 2))
    assert not score(read_clip(doubled), item)["strict"]


def test_an_object_that_is_missing_in_many_frames_is_not_strictly_right(truth: Clips) -> None:
    frames, item = next(pair for pair in truth if pair[1].motion == "still")
    flickering = frames.copy()
    flickering[::3] = flickering[0, 0, 0]
    right = score(read_clip(flickering), item)
    assert right["all"]
    assert not right["strict"]
