from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetoscope.data.config import ScenesConfig
from kinetoscope.data.prepare.scenes import Scene, SceneCutter


def scenes(lengths: list[int], config: ScenesConfig) -> list[Scene]:
    """Cut a video of still images, one per scene."""
    rng = np.random.default_rng(0)
    cutter = SceneCutter(config)
    for length in lengths:
        image = rng.integers(0, 255, (36, 64, 3), dtype=np.uint8)
        for _ in range(length):
            cutter.push(image)
    return cutter.scenes()


def test_cuts_are_at_exact_frames() -> None:
    found = scenes([23, 31, 40], ScenesConfig(min_scene_frames=10))
    assert found == [Scene(0, 23, 0), Scene(23, 54, 1), Scene(54, 94, 2)]


def test_cutting_can_be_switched_off() -> None:
    assert scenes([20, 20], ScenesConfig(enabled=False)) == [Scene(0, 40)]


def test_a_scene_is_at_least_the_minimum_long() -> None:
    found = scenes([30, 5, 30], ScenesConfig(min_scene_frames=10))
    assert found == [Scene(0, 30, 0), Scene(30, 65, 1)]


def test_no_frames_give_no_scene() -> None:
    assert SceneCutter(ScenesConfig()).scenes() == []


@settings(max_examples=20, deadline=None)
@given(num_frames=st.integers(1, 60), longest=st.integers(1, 70))
def test_pieces_of_long_scenes_cover_all_frames_once(num_frames: int, longest: int) -> None:
    cutter = SceneCutter(ScenesConfig(max_scene_frames=longest))
    image = np.zeros((8, 8, 3), np.uint8)
    for _ in range(num_frames):
        cutter.push(image)
    pieces = cutter.scenes()
    assert pieces[0].start == 0
    assert pieces[-1].end == num_frames
    assert all(a.end == b.start for a, b in pairwise(pieces))
    assert max(piece.end - piece.start for piece in pieces) <= longest
