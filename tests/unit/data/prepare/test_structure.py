"""Files whose headers say other things than their frames do; made by ffmpeg."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from tiny.ffmpeg import ffmpeg, picture

from kinetoscope.data.config import LimitsConfig
from kinetoscope.data.prepare.decode import probe
from kinetoscope.data.prepare.decoding import VideoInfo
from kinetoscope.data.prepare.quarantine import QuarantinedError
from kinetoscope.data.prepare.structure import is_cut_off
from kinetoscope.data.sources.even_frames import EvenFrames

SUFFIXES = ("mp4", "mov", "mkv", "webm", "avi")


def info(path: Path) -> VideoInfo:
    return probe(io.BytesIO(path.read_bytes()), LimitsConfig())


def why(path: Path) -> tuple[str, str]:
    with pytest.raises(QuarantinedError) as error:
        info(path)
    return error.value.reason, error.value.detail


def made(path: Path, *options: str) -> Path:
    codec = "libvpx" if path.suffix == ".webm" else "libx264"
    return picture(path, *options, codec=codec)


def test_h264_that_was_copied_into_avi_is_whole_and_has_its_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "copy.avi"
    ffmpeg("-i", picture(tmp_path / "a.mp4", "-bf", "2"), "-c", "copy", path)
    assert info(path).num_frames == 24
    assert info(path).fps == 12.0


def test_avi_of_a_variable_rate_is_whole(tmp_path: Path) -> None:
    dropped = ("-vf", "select=not(eq(mod(n\\,3)\\,1))", "-fps_mode", "vfr")
    path = picture(tmp_path / "vfr.avi", *dropped, codec="mpeg4")
    assert info(path).num_frames == 24
    assert info(path).even == EvenFrames((1, 1), num_decoded=16)


def test_a_wrong_duration_with_all_frames_is_whole(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mkv")
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3  # EBML: Duration, 8 bytes
    data[at : at + 8] = struct.pack(">d", 60_000.0)
    path.write_bytes(data)
    assert info(path).num_frames == 24


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_files_are_whole(tmp_path: Path, suffix: str) -> None:
    path = made(tmp_path / f"a.{suffix}")
    data = path.read_bytes()
    assert not is_cut_off(io.BytesIO(data), len(data))
    assert info(path).num_frames == 24


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_cut_files_are_told(tmp_path: Path, suffix: str, share: float) -> None:
    path = made(tmp_path / f"a.{suffix}", *(("-movflags", "+faststart") if suffix == "mp4" else ()))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert why(path)[0] == "truncated"


def test_a_stream_whose_length_was_not_known_is_whole(tmp_path: Path) -> None:
    path = made(tmp_path / "live.webm", "-f", "webm", "-live", "1")
    assert info(path).num_frames == 24


@pytest.mark.parametrize(
    ("kind", "data"),
    [("a GIF", b"GIF89a"), ("a PNG image", b"\x89PNG\r\n"), ("a ZIP archive", b"PK\x03\x04")],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, kind: str, data: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data + bytes(2000))
    assert why(path) == ("unreadable", f"it is {kind}, whatever its name says")


@pytest.mark.parametrize(
    "junk", [b"\x00" * 64, b"\x1a\x45\xdf\xa3", b"RIFF\xff", b"\0\0\0\1ftyp\0"]
)
def test_junk_has_an_end(junk: bytes) -> None:
    assert is_cut_off(io.BytesIO(junk), len(junk)) in (True, False)
