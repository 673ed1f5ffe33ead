"""Frames are taken at even times, with ffmpeg's ``fps`` filter as the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tiny.clips import index_video
from tiny.ffmpeg import ffmpeg, picture, shown_by_ffmpeg

from kinetoscope.data.config import LimitsConfig, PrepareDataConfig
from kinetoscope.data.prepare.analysis import VideoAnalysis, analyze
from kinetoscope.data.sources.directory import LocalBytes
from kinetoscope.data.sources.videos import PreparedVideo
from kinetoscope.data.video.files import decode_window
from kinetoscope.inference.references import read_reference

SIZE = (64, 96)


def analysis(path: Path, fps: float | None = None) -> VideoAnalysis:
    limits = LimitsConfig(min_frames=1)
    with path.open("rb") as file:
        return analyze(file, PrepareDataConfig(fps=fps, limits=limits))


def frames(path: Path, fps: float | None, start: int, count: int) -> npt.NDArray[np.uint8]:
    found, indexed = analysis(path, fps), index_video(path)
    source = LocalBytes(path)
    video = PreparedVideo(path.name, indexed.blocks, found.times, found.even, source)
    return np.stack(list(decode_window(video, start, count)))


def with_gaps(path: Path, *options: str) -> Path:
    """Write two of each three frames of a clip of 24 frames per second, as telephones do."""
    source = "testsrc2=size=96x64:rate=24:duration=4,select='mod(n\\,3)-1'"
    return picture(
        path, "-fps_mode", "passthrough", "-enc_time_base", "1/24", *options, source=source
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_rate_is_shown_at_its_own(tmp_path: Path, suffix: str) -> None:
    path = with_gaps(tmp_path / f"gaps{suffix}")
    found = analysis(path)
    assert (found.fps, found.own_fps, found.num_frames) == (24.0, 24.0, 96)
    wanted = shown_by_ffmpeg(path, SIZE, filters="fps=24")
    assert (frames(path, None, 0, 96) == wanted[:96]).all()
    # Late enough to be sought.
    assert (frames(path, None, 70, 10) == wanted[70:80]).all()


@pytest.mark.parametrize(
    ("rate", "seconds", "fps"),
    [(1, 12, 24), (16, 4, 24), (240, 1, 24), (24, 4, 8), (30, 4, 23.976)],
)
def test_every_rate_becomes_the_one_asked_for(
    tmp_path: Path, rate: int, seconds: int, fps: float
) -> None:
    source = f"testsrc2=size=96x64:rate={rate}:duration={seconds}"
    path = picture(tmp_path / "clip.mp4", source=source)
    found = analysis(path, fps)
    assert (found.fps, found.own_fps) == (fps, rate)
    wanted = shown_by_ffmpeg(path, SIZE, filters=f"fps={fps}")
    assert found.num_frames == len(wanted)
    assert (frames(path, fps, 0, found.num_frames) == wanted).all()


def test_a_gap_is_kept_at_the_rate_asked_for(tmp_path: Path) -> None:
    path = with_gaps(tmp_path / "gaps.mp4")
    wanted = shown_by_ffmpeg(path, SIZE, filters="fps=8")
    assert (frames(path, 8, 0, 32) == wanted[:32]).all()


def test_nearly_the_rate_asked_for_is_that_rate(tmp_path: Path) -> None:
    path = picture(tmp_path / "film.mp4", source="testsrc2=size=96x64:rate=24000/1001:duration=4")
    found = analysis(path, 24)
    assert found.fps == pytest.approx(23.976, abs=1e-3)
    assert found.even is None


def test_frames_without_times_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "raw.avi"
    picture(path, "-bf", "0", source="testsrc2=size=96x64:rate=24:duration=2", codec="mpeg4")
    found = analysis(path, 12)
    assert (found.fps, found.num_frames) == (12, 24)
    assert (frames(path, 12, 0, 24) == shown_by_ffmpeg(path, SIZE, filters="fps=12")).all()


def test_motion_is_that_of_the_frames_that_are_taken(tmp_path: Path) -> None:
    path = picture(tmp_path / "clip.mp4", source="testsrc2=size=96x64:rate=24:duration=2")
    fast, slow = (analysis(path, fps).scenes[0].scores["motion"] for fps in (8, None))
    assert fast is not None
    assert slow is not None
    assert fast > 1.5 * slow


def test_a_gap_of_hours_fills_no_disk(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    late = ("-vf", "setpts=if(lt(N\\,10)\\,PTS\\,PTS+36000/TB)", "-fps_mode", "passthrough")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=32x32:rate=10:duration=2", *late, path)
    found = analysis(path, 24)
    assert found.reason == "too_large"


@pytest.mark.parametrize("fps", [1e-9, 0.05, 1001, 1e9, float("inf"), float("nan"), 0, -1])
def test_absurd_rates_are_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="fps"):
        PrepareDataConfig(fps=fps)


def test_a_rate_of_too_many_frames_is_refused_before_they_are_measured(tmp_path: Path) -> None:
    path = picture(tmp_path / "clip.mp4", source="testsrc2=size=32x32:rate=8:duration=10")
    limits = LimitsConfig(max_frames=5000)
    with path.open("rb") as file:
        found = analyze(file, PrepareDataConfig(fps=1000, limits=limits))
    assert found.reason == "too_large"
    assert "10000 frames or more" in found.detail


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_reference_with_gaps_is_taken_as_a_training_video_is(tmp_path: Path, suffix: str) -> None:
    path = with_gaps(tmp_path / f"gaps{suffix}")
    for fps in (8, 16, 24):
        reference = read_reference(path, SIZE, fps)
        assert (reference == frames(path, fps, 0, len(reference))).all()
        assert len(reference) == analysis(path, fps).num_frames


def test_a_reference_is_taken_at_the_rate_that_is_generated(tmp_path: Path) -> None:
    path = picture(tmp_path / "clip.mp4", source="testsrc2=size=96x64:rate=24:duration=2")
    assert len(read_reference(path, SIZE)) == 48
    wanted = shown_by_ffmpeg(path, SIZE, filters="fps=8")
    assert (read_reference(path, SIZE, 8) == wanted).all()
