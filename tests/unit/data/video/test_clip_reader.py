from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny.clips import clip_row, local_videos

from kinetoscope.core.errors import DataError
from kinetoscope.core.hashing import digest_file
from kinetoscope.data.clip_table import ClipTable
from kinetoscope.data.video.clip_reader import (
    ClipReader,
    cover_and_crop,
    to_frames,
    to_pixels,
)
from kinetoscope.data.video.files import read_video, write_video

Frames = npt.NDArray[np.uint8]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (40, 4, 6, 3), dtype=np.uint8)
    write_video(path, frames.repeat(8, axis=1).repeat(8, axis=2), 10)
    return path


def make_table(path: Path, num_clips: int = 2, num_frames: int = 20) -> ClipTable:
    rows = [
        clip_row(
            number,
            clip_id=f"c{number}",
            video=path.name,
            digest=digest_file(path),
            start_frame=20 * number,
            num_frames=num_frames,
            fps=10.0,
            width=48,
        )
        for number in range(num_clips)
    ]
    return ClipTable.from_rows(rows, local_videos(path.parent))


@pytest.mark.parametrize("cache_bytes", [0, 50_000, 10**8])
def test_windows_are_the_same_with_any_cache(video: Path, cache_bytes: int) -> None:
    whole, _ = read_video(video)
    reader = ClipReader(make_table(video), cache_bytes=cache_bytes)
    for row, start, count in [(0, 0, 20), (1, 3, 5), (0, 19, 1), (1, 3, 5), (0, 0, 20)]:
        got = reader.read(row, start, count, size=(32, 48))
        np.testing.assert_array_equal(got, whole[20 * row + start : 20 * row + start + count])


def test_a_small_clip_is_decoded_once_for_all_its_windows(video: Path) -> None:
    reader = ClipReader(make_table(video), cache_bytes=10**8)
    reader.read(0, 0, 1, size=(16, 24))
    video.unlink()
    assert reader.read(0, 10, 10, size=(16, 24)).shape == (10, 16, 24, 3)
    with pytest.raises(DataError):
        reader.read(1, 0, 1, size=(16, 24))


def test_the_cache_drops_the_least_recently_used_frames(video: Path) -> None:
    window_bytes = 5 * 32 * 48 * 3
    reader = ClipReader(make_table(video), cache_bytes=2 * window_bytes)
    for start in (0, 5, 0, 10):  # 5 leaves when 10 comes
        reader.read(0, start, 5, size=(32, 48))
    video.unlink()
    reader.read(0, 0, 5, size=(32, 48))
    reader.read(0, 10, 5, size=(32, 48))
    with pytest.raises(DataError):
        reader.read(0, 5, 5, size=(32, 48))


def test_windows_outside_the_clip_are_refused(video: Path) -> None:
    reader = ClipReader(make_table(video))
    with pytest.raises(ValueError, match="clip c0 of 20 frames"):
        reader.read(0, 10, 11, size=(32, 48))


def test_a_video_shorter_than_the_table_says_is_refused(video: Path) -> None:
    reader = ClipReader(make_table(video, num_frames=30), cache_bytes=0)
    with pytest.raises(DataError, match="40 frames that can be decoded"):
        reader.read(1, 15, 10, size=(32, 48))


@pytest.mark.parametrize("shape", [(40, 40), (90, 33), (33, 90), (8, 6)])
def test_frames_cover_the_size_whatever_their_shape(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 200, np.uint8)
    assert (cover_and_crop(image, (24, 32), (0.5, 0.5)) == 200).all()
    assert cover_and_crop(image, (24, 32), (0.5, 0.5)).shape == (24, 32, 3)


def test_the_crop_is_taken_where_it_is_asked() -> None:
    image = np.repeat(np.arange(64, dtype=np.uint8), 32 * 3).reshape(64, 32, 3)
    assert cover_and_crop(image, (32, 32), (0.0, 0.5))[0, 0, 0] == 0
    assert cover_and_crop(image, (32, 32), (0.5, 0.5))[0, 0, 0] == 16
    assert cover_and_crop(image, (32, 32), (1.0, 0.5))[0, 0, 0] == 32


def test_pixels_are_in_minus_one_to_one_and_come_back_as_frames() -> None:
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    pixels = to_pixels(frames)
    assert pixels.shape == (3, 1, 16, 16)
    assert pixels.dtype == torch.float32
    assert (pixels.min().item(), pixels.max().item()) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_frames(pixels), frames)
    assert to_frames(torch.full((3, 1, 2, 2), 7.0)).max() == 255
