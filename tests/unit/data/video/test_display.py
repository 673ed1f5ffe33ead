"""Frames as a player shows them; ffmpeg's own output is the judge."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from tiny.clips import local_video
from tiny.ffmpeg import ffmpeg, picture, shown_by_ffmpeg

from kinetoscope.data.config import LimitsConfig, PrepareDataConfig
from kinetoscope.data.prepare.analysis import VideoAnalysis, analyze
from kinetoscope.data.prepare.decode import probe
from kinetoscope.data.prepare.quarantine import QuarantinedError
from kinetoscope.data.video.files import decode_window, read_video
from kinetoscope.inference.references import read_reference


def analysis(path: Path) -> VideoAnalysis:
    return analyze(io.BytesIO(path.read_bytes()), PrepareDataConfig(num_workers=1))


def turned(tmp_path: Path, *options: str, suffix: str = "mp4") -> Path:
    """Copy a picture's packets into a file with another display matrix."""
    path = tmp_path / f"turned.{suffix}"
    # Colour samples of their own for every pixel: ffmpeg turns frames before it converts them.
    plain = picture(tmp_path / "plain.mp4", "-pix_fmt", "yuv444p")
    ffmpeg(*options, "-i", plain, "-c", "copy", path)
    return path


TURNS = {
    "quarter": (("-display_rotation", "90"), (96, 64)),
    "half": (("-display_rotation", "180"), (64, 96)),
    "three quarters": (("-display_rotation", "270"), (96, 64)),
    "mirrored": (("-display_hflip",), (64, 96)),
    "upside down": (("-display_vflip",), (64, 96)),
    "mirrored, quarter": (("-display_rotation", "90", "-display_hflip"), (96, 64)),
    "upside down, three quarters": (("-display_rotation", "270", "-display_vflip"), (96, 64)),
}


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_turned_as_players_turn_them(tmp_path: Path, turn: str, suffix: str) -> None:
    options, size = TURNS[turn]
    path = turned(tmp_path, *options, suffix=suffix)
    wanted = shown_by_ffmpeg(path, size)
    frames, fps = read_video(path)
    assert (frames.shape, fps) == ((24, *size, 3), 12.0)
    assert np.abs(frames.astype(int) - wanted).mean() < 0.5
    found = analysis(path)
    assert (found.height, found.width) == size
    assert found.shown == ("turned",)


def test_windows_and_references_are_turned_too(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    source = picture(
        tmp_path / "a.mp4", "-g", "12", source="testsrc2=size=96x64:rate=12:duration=9"
    )
    ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", path)
    whole, _ = read_video(path)
    window = np.stack(list(decode_window(local_video(path), 70, 5)))
    assert (window == whole[70:75]).all()
    assert (read_reference(path, (96, 64)) == whole).all()


ASPECTS = {
    "PAL wide": ("64/45", (64, 136)),
    "narrow": ("8/9", (64, 85)),
    "double": ("2/1", (64, 192)),
}


@pytest.mark.parametrize("aspect", ASPECTS)
def test_pixels_are_made_square(tmp_path: Path, aspect: str) -> None:
    ratio, size = ASPECTS[aspect]
    path = picture(tmp_path / "a.mp4", "-vf", f"setsar={ratio}")
    frames, _ = read_video(path)
    assert frames.shape[1:3] == size
    assert np.abs(frames.astype(int) - shown_by_ffmpeg(path, size)).mean() < 1.0
    found = analysis(path)
    assert (found.height, found.width, found.shown) == (*size, ("anamorphic",))


def test_wide_pixels_are_made_square_before_the_turn(tmp_path: Path) -> None:
    path = tmp_path / "b.mp4"
    source = picture(tmp_path / "a.mp4", "-vf", "setsar=2/1")
    ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", path)
    upright = shown_by_ffmpeg(path, (64, 192), before=("-noautorotate",))
    frames, _ = read_video(path)
    assert frames.shape[1:3] == (192, 64)
    assert np.abs(frames.astype(int) - np.rot90(upright, axes=(1, 2))).mean() < 1.0
    assert analysis(path).shown == ("anamorphic", "turned")


COLOURS = {
    "BT.709": (
        "-pix_fmt",
        "yuv420p",
        "-vf",
        "scale=out_color_matrix=bt709",
        "-colorspace",
        "bt709",
    ),
    "BT.601": ("-pix_fmt", "yuv420p", "-vf", "setparams=colorspace=smpte170m"),
    "undeclared": ("-pix_fmt", "yuv420p"),
    "full range": ("-pix_fmt", "yuvj420p", "-color_range", "pc"),
    "10 bit": (
        "-pix_fmt",
        "yuv420p10le",
    ),
    "4:4:4": (
        "-pix_fmt",
        "yuv444p",
    ),
}


@pytest.mark.parametrize("colours", COLOURS)
def test_colours_are_those_of_ffmpeg(tmp_path: Path, colours: str) -> None:
    path = picture(tmp_path / "a.mp4", *COLOURS[colours])
    frames, _ = read_video(path)
    assert np.abs(frames.astype(int) - shown_by_ffmpeg(path, (64, 96))).mean() < 0.5


def test_what_is_not_changed_is_told(tmp_path: Path) -> None:
    fields = picture(tmp_path / "i.mp4", "-vf", "interlace", "-flags", "+ildct+ilme")
    assert "interlaced" in analysis(fields).shown
    transfer = ("-vf", "setparams=color_trc=smpte2084", "-pix_fmt", "yuv420p10le")
    hdr = picture(tmp_path / "h.mp4", *transfer)
    assert analysis(hdr).shown == ("hdr",)
    assert analysis(picture(tmp_path / "plain.mp4")).shown == ()


def test_other_angles_are_refused_with_the_angle(tmp_path: Path) -> None:
    path = turned(tmp_path, "-display_rotation", "30")
    with pytest.raises(QuarantinedError, match=r"turned by -?30\.0 degrees"):
        probe(io.BytesIO(path.read_bytes()), LimitsConfig())


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:size=320x240", "-frames:v", "1", cover)
    path = tmp_path / "a.mp4"
    inputs = ("-i", cover, "-i", picture(tmp_path / "plain.mp4"))
    maps = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic")
    ffmpeg(*inputs, *maps, path)
    frames, _ = read_video(path)
    assert frames.shape == (24, 64, 96, 3)
    assert analysis(path).num_frames == 24
