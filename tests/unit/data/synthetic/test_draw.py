from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from kinetoscope.data.config import SynthConfig
from kinetoscope.data.synthetic import vocabulary as shapes
from kinetoscope.data.synthetic.draw import combinations, draw, synthesize
from kinetoscope.data.video.files import read_video

COLOR_TOLERANCE = 30


def test_captions_and_parse_are_inverse() -> None:
    for combination in shapes.ALL_COMBINATIONS:
        assert shapes.parse(combination.caption) == combination
    assert len({c.caption for c in shapes.ALL_COMBINATIONS}) == 60


@pytest.mark.parametrize(
    "text", ["", "a red circle", "a pink circle moving left", "a red circle moving still", "red"]
)
def test_other_texts_are_not_parsed(text: str) -> None:
    assert shapes.parse(text) is None


def test_held_out_combinations_spread_over_every_word() -> None:
    held_out = shapes.held_out_combinations(12, seed=3)
    assert len(set(held_out)) == 12
    for column, times in ((0, 4), (1, 3)):
        assert set(Counter(c[column] for c in held_out).values()) == {times}
    assert len({c.motion for c in held_out}) == 5
    assert held_out != shapes.held_out_combinations(12, seed=4)


def test_held_out_combinations_are_never_written_and_the_others_equally_often() -> None:
    config = SynthConfig(num_clips=108, held_out=6)
    shown = Counter(combinations(config))
    assert set(shown) == set(shapes.ALL_COMBINATIONS) - set(shapes.held_out_combinations(6, 0))
    assert set(shown.values()) == {2}


def test_the_same_config_gives_the_same_bytes(tmp_path: Path) -> None:
    config = SynthConfig(num_clips=3, num_frames=5)
    first, second = (synthesize(tmp_path / name, config) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    other = synthesize(tmp_path / "c", SynthConfig(num_clips=3, num_frames=5, seed=1))
    assert [p.read_bytes() for p in other] != [p.read_bytes() for p in first]


def test_files_have_the_asked_size_length_and_rate(tmp_path: Path) -> None:
    config = SynthConfig(num_clips=2, num_frames=9, size_px=48, fps=12)
    calls: list[tuple[int, int]] = []
    paths = synthesize(tmp_path, config, lambda done, total: calls.append((done, total)))
    frames, fps = read_video(paths[1])
    assert frames.shape == (9, 48, 48, 3)
    assert fps == pytest.approx(12)
    assert calls == [(1, 2), (2, 2)]
    with (tmp_path / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [path.name for path in paths]
    assert all(shapes.parse(row["text"]) for row in rows)


def test_colour_and_motion_survive_the_encoder(tmp_path: Path) -> None:
    config = SynthConfig(num_clips=24)
    paths = synthesize(tmp_path, config)
    for path, combination in zip(paths, combinations(config), strict=True):
        frames = read_video(path)[0].astype(float)
        bright = frames.max(axis=-1) > 120
        center = frames[8][bright[8]]
        color = np.median(center, axis=0)
        assert np.abs(color - shapes.COLORS[combination.color]).max() < COLOR_TOLERANCE
        first, last = (np.argwhere(bright[t]).mean(axis=0) for t in (0, -1))
        moved = (last - first) / 32
        direction = np.array(shapes.MOTIONS[combination.motion])
        assert moved @ direction > 0.25 or combination.motion == "still"
        assert np.abs(moved - direction * (moved @ direction)).max() < 0.03


def test_shapes_fill_their_share_of_the_bounding_box() -> None:
    shares = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5}
    config = SynthConfig(num_frames=2, size_px=128)
    for shape, share in shares.items():
        frame = draw(shapes.Combination(shape, "yellow", "still"), config, 0)[0]
        inside = frame[..., 0] > 120
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert inside.sum() / area == pytest.approx(share, abs=0.05)


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ValidationError, match="multiple"):
        SynthConfig(size_px=33)
