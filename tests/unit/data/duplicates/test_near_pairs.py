from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from kinetoscope.data.config import NearDuplicatesConfig, SynthConfig
from kinetoscope.data.duplicates.groups import group_clips
from kinetoscope.data.duplicates.pairs import near_pairs
from kinetoscope.data.duplicates.signature import SIGNATURE, signature
from kinetoscope.data.prepare.split import split_groups
from kinetoscope.data.synthetic.draw import combinations, draw

MAX_DISTANCE = NearDuplicatesConfig().max_distance
HEIGHT, WIDTH = 180, 320
NUM_CLIPS = 8

Frames = list[np.ndarray]


def texture(rng: np.random.Generator) -> np.ndarray:
    """Draw a coloured cloud with some edges, of twice the area of a frame."""
    height, width = HEIGHT * 5 // 4, WIDTH * 5 // 4
    image = np.zeros((height, width, 3), np.float32)
    for cells in (3, 6, 12, 24, 48, 96):
        noise = rng.normal(size=(max(2, cells // 2), cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / cells
    image = 128 + 50 * (image - image.mean()) / image.std()
    for _ in range(12):
        corners = rng.uniform(0, 1, 2) + 0.12 * rng.uniform(-1, 1, (4, 2))
        points = (cv2.convexHull((corners * (width, height)).astype(np.int32)),)
        cv2.fillPoly(image, points, rng.uniform(0, 255, 3).tolist(), lineType=cv2.LINE_AA)
    return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)


def clip(scene: int, thing: int, delay: float = 0.0) -> Frames:
    """Draw four frames: the camera pans over a scene, and a disc moves through."""
    ground = texture(np.random.default_rng([scene, 0]))
    rng = np.random.default_rng([thing, 1])
    color, radius = rng.choice([0, 255], 3).tolist(), int(WIDTH * rng.uniform(0.08, 0.12))
    start, speed = rng.uniform(0.3, 0.7, 2), rng.uniform(-0.3, 0.3, 2)
    frames = []
    for time in np.array([0.125, 0.375, 0.625, 0.875]) + delay:
        top, left = int(HEIGHT * time / 6), int(WIDTH * time / 6)
        frame = ground[top : top + HEIGHT, left : left + WIDTH].copy()
        middle = ((start + speed * (time - 0.5)) * (WIDTH, HEIGHT)).astype(int).tolist()
        frames.append(cv2.circle(frame, middle, radius, color, -1, cv2.LINE_AA))
    return frames


def sign(frames: Frames) -> np.ndarray:
    """Sign frames shrunk to 96 pixels, as `prepare_data` does."""
    scale = 96 / max(frames[0].shape)
    small = [cv2.resize(f, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for f in frames]
    return signature([np.asarray(frame, dtype=np.uint8) for frame in small])


def compressed(frame: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", frame, [1, 25])[1], 1), dtype=np.uint8)


def cropped(frame: np.ndarray) -> np.ndarray:
    return frame[22:-14, 32:-45]


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "encoded": compressed,
    "smaller": lambda frame: cv2.resize(frame, (160, 90), interpolation=cv2.INTER_AREA),
    "darker": lambda frame: (frame * 0.7 + 20).astype(np.uint8),
    "cropped": cropped,
    "half cropped": lambda frame: frame[36:-36, 64:-64],
    "letterboxed": lambda frame: np.pad(frame, ((40, 40), (0, 0), (0, 0))),
    "mirrored": lambda frame: frame[:, ::-1],
    "cropped and mirrored": lambda frame: cropped(frame)[:, ::-1],
}
KINDS = {
    "encoded": "same",
    "smaller": "same",
    "darker": "same",
    "cropped": "cropped",
    "half cropped": "cropped",
    "mirrored": "mirrored",
    "cropped and mirrored": "cropped and mirrored",
}


@pytest.fixture(scope="module")
def originals() -> np.ndarray:
    return np.stack([sign(clip(scene, scene)) for scene in range(NUM_CLIPS)])


@pytest.mark.parametrize("change", CHANGES)
def test_changed_clips_are_near_their_originals(originals: np.ndarray, change: str) -> None:
    changed = [
        sign([np.ascontiguousarray(CHANGES[change](frame)) for frame in clip(scene, scene)])
        for scene in range(NUM_CLIPS)
    ]
    pairs = list(near_pairs(np.concatenate([originals, changed]), MAX_DISTANCE))
    assert len(pairs) >= (NUM_CLIPS if KINDS.get(change) in {"same", "mirrored"} else 6)
    for first, second, distance, kind in pairs:
        assert second == first + NUM_CLIPS
        assert 0 <= distance <= MAX_DISTANCE
        assert kind == KINDS.get(change, kind)


def test_a_clip_that_begins_a_little_later_is_near(originals: np.ndarray) -> None:
    later = [sign(clip(scene, scene, delay=0.02)) for scene in range(NUM_CLIPS)]
    assert len(near_pairs(np.concatenate([originals, later]), MAX_DISTANCE)) == NUM_CLIPS


def test_other_things_in_one_place_are_distinct() -> None:
    signatures = np.stack([sign(clip(scene=3, thing=thing)) for thing in range(30)])
    assert len(near_pairs(signatures, MAX_DISTANCE)) == 0


def test_noise_makes_no_heap_of_dark_and_flat_clips() -> None:
    rng = np.random.default_rng(0)
    clips = [np.full((4, 54, 96, 3), level, np.uint8) for level in (0, 0, 3, 90, 200)]
    clips += [rng.integers(0, 4, (4, 54, 96, 3), dtype=np.uint8) for _ in range(20)]
    clips += [rng.integers(60, 70, (4, 54, 96, 3), dtype=np.uint8) for _ in range(20)]
    pairs = list(near_pairs(np.stack([signature(list(frames)) for frames in clips]), MAX_DISTANCE))
    assert pairs == [(0, 1, 0.0, "equal")]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_synthetic_set_does_not_collapse(seed: int) -> None:
    config = SynthConfig(num_clips=200, seed=seed)
    clips = (draw(c, config, index) for index, c in enumerate(combinations(config)))
    signatures = np.stack([signature([clip[t] for t in (2, 6, 10, 14)]) for clip in clips])
    names = [str(i) for i in range(200)]
    groups = group_clips(names, signatures, MAX_DISTANCE)
    sizes = np.bincount(groups)
    assert (sizes == 1).sum() > 160
    assert sizes.max() <= 5
    heldout = split_groups(groups, np.arange(200), fraction=0.05, seed=0)
    assert 0 < heldout.sum() < 200


def test_the_order_of_clips_does_not_matter(originals: np.ndarray) -> None:
    changed = [
        sign([np.ascontiguousarray(change(frame)) for frame in clip(scene, scene)])
        for scene in range(4)
        for change in CHANGES.values()
    ]
    signatures = np.concatenate([originals, changed, originals[:2]])
    names = [str(i) for i in range(len(signatures))]
    order = np.random.default_rng(0).permutation(len(signatures))
    straight = group_clips(names, signatures, MAX_DISTANCE)
    shuffled = group_clips(names, signatures[order], MAX_DISTANCE)
    assert len(set(straight)) < 20
    together = straight[order][:, None] == straight[order]
    assert np.array_equal(together, shuffled[:, None] == shuffled)


def test_clips_of_one_source_are_one_group_and_groups_chain() -> None:
    signatures = np.zeros((6, SIGNATURE.itemsize), np.uint8)
    signatures[:, 0] = [1, 2, 1, 3, 2, 4]
    names = ["a", "a", "b", "c", "d", "c"]
    assert group_clips(names, signatures, 0.2).tolist() == [0, 0, 0, 1, 0, 1]
    assert group_clips(names, signatures, None).tolist() == [0, 0, 1, 2, 3, 2]


def test_many_clips_that_look_alike_are_joined_without_all_their_pairs() -> None:
    rng, count = np.random.default_rng(0), 60
    frames = clip(0, 0)
    noisy = [
        sign([np.clip(f + rng.integers(-3, 4, f.shape), 0, 255).astype(np.uint8) for f in frames])
        for _ in range(count)
    ]
    pairs = near_pairs(np.stack(noisy), MAX_DISTANCE)
    assert len(pairs) < count * (count - 1) // 2
    assert not group_clips(map(str, range(count)), np.stack(noisy), MAX_DISTANCE).any()
    order = rng.permutation(count)
    shuffled = near_pairs(np.stack(noisy)[order], MAX_DISTANCE)
    expected = {frozenset(pair[:2]) for pair in pairs}
    assert {frozenset(order[[i, j]].tolist()) for i, j, _, _ in shuffled} == expected


def test_many_equal_clips_are_one_group() -> None:
    signatures = np.repeat(sign(clip(0, 0))[None], 20_000, axis=0)
    assert not group_clips(map(str, range(20_000)), signatures, MAX_DISTANCE).any()


def test_no_clip_and_one_clip(originals: np.ndarray) -> None:
    assert group_clips([], np.zeros((0, SIGNATURE.itemsize), np.uint8), 0.5).tolist() == []
    assert group_clips(["a"], originals[:1], 0.5).tolist() == [0]


def test_frames_of_few_pixels_can_be_signed() -> None:
    for shape in ((1, 1, 3), (1, 90, 3), (3, 2, 3)):
        assert len(signature([np.full(shape, 9, np.uint8)] * 4)) == SIGNATURE.itemsize
