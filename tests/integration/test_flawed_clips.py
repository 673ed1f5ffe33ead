"""Clips with bars, blank and frozen ones: told, and left out by a condition."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tiny.ffmpeg import ffmpeg, picture

from kinetoscope.core.errors import DataError
from kinetoscope.data.config import FiltersConfig, PrepareDataConfig, ScenesConfig
from kinetoscope.data.prepare.prepare import prepare
from kinetoscope.data.prepare.prepared import Prepared, Source
from kinetoscope.runs.videos import look_at_videos
from kinetoscope.storage.directory import DirectoryStore

TESTSRC = "testsrc2=size=96x64:rate=12:duration=2"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    picture(folder / "good.mp4", source=TESTSRC)
    picture(folder / "other.mp4", source="mandelbrot=size=96x64:rate=12,trim=duration=2")
    picture(folder / "letterbox.mp4", source=f"{TESTSRC},hue=h=90,pad=96:96:0:16:black")
    picture(folder / "blank.mp4", source="color=0x203040:size=96x64:rate=12:duration=2")
    still = "smptebars=size=96x64:rate=12:duration=2"
    picture(folder / "still.mp4", source=still)
    return folder


def prepared(videos: Path, out: Path, *where: str) -> tuple[Prepared, pl.DataFrame]:
    place, listing = look_at_videos(str(videos))
    out.mkdir()
    config = PrepareDataConfig(
        num_workers=1, scenes=ScenesConfig(enabled=False), filters=FiltersConfig(where=where)
    )
    done = prepare(
        Source(place, listing), DirectoryStore(out), config, seed=0, scratch=out / "scratch"
    )
    return done, pl.read_parquet(out / "outputs/clips/clips.parquet")


def test_flaws_are_told_and_nothing_is_dropped_unasked(videos: Path, tmp_path: Path) -> None:
    done, table = prepared(videos, tmp_path / "out")
    assert set(table["video"]) == {path.name for path in videos.iterdir()}
    notes = " ".join(done.notes)
    assert "1 of 5 clips have black bars (bars > 0.02)" in notes
    assert "1 of 5 clips are mostly blank (blank > 0.5)" in notes
    assert "2 of 5 clips are mostly frozen (frozen > 0.5)" in notes


def test_conditions_leave_them_out(videos: Path, tmp_path: Path) -> None:
    done, table = prepared(videos, tmp_path / "out", "bars < 0.02", "frozen < 0.5 and blank < 0.5")
    assert set(table["video"]) == {"good.mp4", "other.mp4"}
    assert done.dropped == {"not: bars < 0.02": 1, "not: frozen < 0.5 and blank < 0.5": 2}
    assert not any("bars" in note for note in done.notes)


def test_a_video_that_is_nothing_but_a_fade_is_told(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("good.mp4", "other.mp4"):
        (folder / name).write_bytes((videos / name).read_bytes())
    fade = "color=white:size=96x64:rate=12:duration=5,fade=in:20:20:color=black"
    picture(folder / "fade.mp4", source=fade)
    place, listing = look_at_videos(str(folder))
    store, config = DirectoryStore(tmp_path / "out"), PrepareDataConfig(num_workers=1)
    (tmp_path / "out").mkdir()
    source, scratch = Source(place, listing), tmp_path / "scratch"
    done = prepare(source, store, config, seed=0, scratch=scratch)
    assert done.num_videos == 3
    assert done.dropped == {"no_scene": 1}


def test_copies_alone_are_refused_with_what_helps(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((videos / "good.mp4").read_bytes())
    ffmpeg("-i", videos / "good.mp4", "-c", "copy", folder / "b.mkv")
    ffmpeg("-i", videos / "good.mp4", "-vf", "hue=s=0", "-frames:v", "3", folder / "short.mp4")
    place, listing = look_at_videos(str(folder))
    (tmp_path / "out").mkdir()
    config = PrepareDataConfig(num_workers=1, scenes=ScenesConfig(enabled=False))
    with pytest.raises(DataError, match="all 2 clips are near-duplicates") as caught:
        prepare(
            Source(place, listing),
            DirectoryStore(tmp_path / "out"),
            config,
            seed=0,
            scratch=tmp_path / "scratch",
        )
    # They are equal: no limit keeps them apart.
    assert "max_distance" not in str(caught.value.hint)
    assert "prepare_data.near_duplicates.enabled=false" in str(caught.value.hint)
