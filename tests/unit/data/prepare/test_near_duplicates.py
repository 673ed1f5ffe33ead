from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from kinetoscope.data.config import NearDuplicatesConfig, SynthConfig
from kinetoscope.data.prepare.near_duplicates import group_clips, near_pairs, normalize, signature
from kinetoscope.data.prepare.split import split_groups
from kinetoscope.data.synthetic.draw import combinations, draw

MAX_DISTANCE = NearDuplicatesConfig().max_distance


def natural(seed: int) -> list[np.ndarray]:
    """Four smooth colour frames."""
    noise = np.random.default_rng(seed).uniform(0, 255, (4, 90, 160, 3)).astype(np.float32)
    blurred = [cv2.GaussianBlur(image, (0, 0), 12) for image in noise]
    scaled = [(b - b.mean()) / b.std() * 50 + 120 for b in blurred]
    return [np.clip(image, 0, 255).astype(np.uint8) for image in scaled]


def distance(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    a, b = normalize(np.stack([signature(one), signature(other)]))
    return float(np.linalg.norm(a - b))


def test_another_encode_size_or_brightness_is_near() -> None:
    frames = natural(0)
    jpeg = [cv2.imdecode(cv2.imencode(".jpg", f, [1, 15])[1], 1) for f in frames]
    assert distance(frames, [np.asarray(f, dtype=np.uint8) for f in jpeg]) < MAX_DISTANCE
    assert distance(frames, [cv2.resize(f, (64, 36)) for f in frames]) < MAX_DISTANCE
    darker = [(f * 0.8 + 5).astype(np.uint8) for f in frames]
    assert distance(frames, darker) < MAX_DISTANCE


def test_unrelated_clips_are_far() -> None:
    assert distance(natural(0), natural(1)) > 1


def test_the_same_place_in_another_colour_is_far() -> None:
    frames = natural(0)
    assert distance(frames, [f[..., ::-1].copy() for f in frames]) > MAX_DISTANCE


def test_pairs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(60, 24))
    vectors = np.concatenate([centers + rng.normal(scale=0.05, size=(60, 24)) for _ in range(20)])
    vectors = vectors.astype(np.float32)
    gaps = np.linalg.norm(vectors[:, None].astype(float) - vectors[None], axis=-1)
    expected = {(int(i), int(j)) for i, j in np.argwhere(gaps <= 0.4) if i < j}
    found = {(min(pair), max(pair)) for pair in near_pairs(vectors, 0.4)}
    edge = {(int(i), int(j)) for i, j in np.argwhere(abs(gaps - 0.4) < 1e-4)}
    assert len(expected) > 1000
    assert (found ^ expected) <= edge


def test_clips_of_one_source_are_one_group_and_groups_chain() -> None:
    vectors = np.array([[0, 0], [9, 9], [0.1, 0], [5, 5], [9, 9.1]], np.float32)
    assert group_clips(["a", "a", "b", "c", "d"], vectors, 0.2) == [0, 0, 0, 1, 0]
    assert group_clips(["a", "a", "b", "c", "d"], vectors, None) == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_synthetic_set_does_not_collapse(seed: int) -> None:
    config = SynthConfig(num_clips=200, seed=seed)
    clips = (draw(c, config, index) for index, c in enumerate(combinations(config)))
    signatures = [signature([clip[t] for t in (2, 6, 10, 14)]) for clip in clips]
    names = [str(i) for i in range(200)]
    groups = group_clips(names, normalize(np.stack(signatures)), MAX_DISTANCE)
    sizes = np.bincount(groups)
    assert (sizes == 1).sum() > 160
    assert sizes.max() <= 5
    heldout = split_groups(np.asarray(groups), np.arange(200), fraction=0.05, seed=0)
    assert 0 < heldout.sum() < 200


def test_ten_thousand_clips_take_seconds() -> None:
    vectors = np.random.default_rng(0).normal(size=(10_000, 256)).astype(np.float32)
    started = time.monotonic()
    groups = group_clips([str(i) for i in range(10_000)], vectors, 0.2)
    assert len(set(groups)) == 10_000
    assert time.monotonic() - started < 30
