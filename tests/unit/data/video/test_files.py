from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from tiny.clips import local_video

from kinetoscope.core.errors import DataError
from kinetoscope.data.sources.blocks import BLOCK_BYTES, ByteSource
from kinetoscope.data.video.files import decode_window, frame_rate, read_video, write_video

Frames = npt.NDArray[np.uint8]


def moving_colors(num_frames: int = 20, height: int = 32, width: int = 48) -> Frames:
    t, h, w = np.meshgrid(*map(np.arange, (num_frames, height, width)), indexing="ij")
    red = np.sin(t / 5 + h / 16)
    green = np.cos(w / 20 + t / 9)
    blue = np.sin(h / 9 + w / 11)
    levels: Frames = ((np.stack([red, green, blue], axis=-1) + 1) * 110 + 10).astype(np.uint8)
    return levels


def test_what_was_written_is_read_back_nearly_unchanged(tmp_path: Path) -> None:
    frames = moving_colors()
    write_video(tmp_path / "a.mp4", frames, 8.0)
    read, fps = read_video(tmp_path / "a.mp4")
    assert read.shape == frames.shape
    assert fps == 8.0
    error = np.abs(read.astype(int) - frames)
    assert error.mean() < 2.0
    assert np.abs((read.astype(float) - frames).mean(axis=(0, 1, 2))).max() < 1.5


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (16,) * 3])
def test_flat_colors_survive(tmp_path: Path, color: tuple[int, int, int]) -> None:
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    frames[:] = color
    write_video(tmp_path / "a.mp4", frames, 8)
    read, _ = read_video(tmp_path / "a.mp4")
    assert np.abs(read.astype(int) - frames).max() <= 2


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, moving_colors(40, 64, 96), 24)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("fps", [24000 / 1001, 29.97, 12.5])
def test_fractional_frame_rates_are_kept(tmp_path: Path, fps: float) -> None:
    write_video(tmp_path / "a.mp4", moving_colors(5), fps)
    assert frame_rate(tmp_path / "a.mp4") == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize("size", [(31, 32), (32, 31)])
def test_odd_sizes_are_refused_with_the_size(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"{size[0]}x{size[1]}.*even"):
        write_video(tmp_path / "a.mp4", np.zeros((2, *size, 3), np.uint8), 8)


def test_floats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="uint8"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 32, 32, 3)), 8)  # type: ignore[arg-type]


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("text")
    with pytest.raises(DataError, match=r"a\.mp4"):
        read_video(tmp_path / "a.mp4")


@pytest.mark.parametrize(("start", "count"), [(0, 1), (3, 17), (60, 40), (299, 2), (399, 1)])
def test_windows_hold_exactly_the_asked_frames(tmp_path: Path, start: int, count: int) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, moving_colors(400, 16, 16), 24)
    whole, _ = read_video(path)
    window = np.stack(list(decode_window(local_video(path), start, count)))
    np.testing.assert_array_equal(window, whole[start : start + count])


@pytest.mark.parametrize("start", [5, 90])
def test_a_window_past_the_end_is_refused(tmp_path: Path, start: int) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, moving_colors(100, 16, 16), 24)
    with pytest.raises(DataError, match="100 frames that can be decoded"):
        list(decode_window(local_video(path), start, 100))


class Counted:
    """The bytes of a file; counts how many were asked for."""

    def __init__(self, source: ByteSource) -> None:
        self.source, self.num_bytes = source, 0

    def read(self, offset: int, length: int) -> bytes:
        data = self.source.read(offset, length)
        self.num_bytes += len(data)
        return data


def write_noise(path: Path, codec: str, options: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=24)
        stream.height, stream.width, stream.pix_fmt = 256, 256, "yuv420p"
        stream.options = options
        for _ in range(200):
            image = rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def test_the_frames_of_a_long_window_are_not_held_in_memory_together(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_noise(path, "libx264", {"crf": "10", "preset": "ultrafast", "g": "24"})
    video = local_video(path)
    source = Counted(video.source)
    window = decode_window(replace(video, source=source), 60, 130)
    next(window)
    assert source.num_bytes < 5 * BLOCK_BYTES < path.stat().st_size // 2


def test_a_key_frame_that_is_shown_later_does_not_send_the_reader_to_the_start(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mp4"
    write_noise(path, "mpeg4", {"q:v": "1", "b": "20M", "bf": "2", "g": "24"})
    video = local_video(path)
    whole = list(decode_window(video, 0, 200))
    for start in range(150, 180):
        source = Counted(video.source)
        window = list(decode_window(replace(video, source=source), start, 3))
        np.testing.assert_array_equal(window, whole[start : start + 3])
        assert source.num_bytes < path.stat().st_size * 2 / 3
