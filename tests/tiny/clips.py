"""Rows of clip tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiny.steps import commit

from kinetoscope.core.hashing import digest_file
from kinetoscope.data.clip_table import ClipRow, arrow_table, write_clip_table
from kinetoscope.data.config import LimitsConfig, SynthConfig
from kinetoscope.data.prepare.decode import probe
from kinetoscope.data.sources.blocks import digest_blocks
from kinetoscope.data.sources.cache import BlockCache
from kinetoscope.data.sources.directory import DirectoryPlace, LocalBytes
from kinetoscope.data.sources.index import IndexedVideo, read_index, write_index
from kinetoscope.data.sources.reader import VerifiedFile
from kinetoscope.data.sources.videos import PreparedVideo, Videos
from kinetoscope.data.synthetic.draw import combinations, synthesize


def clip_row(number: int = 0, **changes: Any) -> ClipRow:
    """Return a row whose names and group follow from its number, and its text from its caption."""
    values: dict[str, Any] = {
        "clip_id": f"clip-{number}",
        "video": f"{number}.mp4",
        "start_frame": 0,
        "num_frames": 20,
        "fps": 8.0,
        "height": 32,
        "width": 32,
        "caption": "",
        "text": changes.get("caption", ""),
        "scores": {"motion": 1.0, "quality": 1.0},
        "split": "train",
        "group": number,
        "digest": "",
    }
    return ClipRow(**values | changes)


def synthetic_rows(
    folder: Path, *, num_clips: int, num_frames: int, heldout: range
) -> list[ClipRow]:
    """Draw small synthetic videos into the folder; those numbered in ``heldout`` are held out."""
    config = SynthConfig(num_clips=num_clips, num_frames=num_frames, size_px=32)
    drawn = zip(synthesize(folder, config), combinations(config), strict=True)
    return [
        clip_row(
            number,
            video=path.name,
            digest=digest_file(path),
            num_frames=num_frames,
            caption=shown.caption,
            split="heldout" if number in heldout else "train",
        )
        for number, (path, shown) in enumerate(drawn)
    ]


def index_video(path: Path) -> IndexedVideo:
    """Return what prepare_data notes of a video."""
    source = LocalBytes(path)
    digests = digest_blocks(source)
    with VerifiedFile(source, digests, path.name) as file:
        info = probe(file, LimitsConfig(min_frames=1))
        return IndexedVideo(digests, info.times, info.even)


def index_videos(folder: Path) -> bytes:
    """Return the index of a folder's videos."""
    return write_index(map(index_video, folder.glob("*.mp4")))


def local_videos(folder: Path) -> Videos:
    """Return a folder's videos as they are opened for reading."""
    index = read_index(index_videos(folder), "videos.parquet")
    return Videos(DirectoryPlace(folder), index, BlockCache(folder / "cache", 0))


def local_video(path: Path) -> PreparedVideo:
    """Return a video as it is opened for reading."""
    return local_videos(path.parent).video(path.name, digest_file(path))


def write_committed_clips(path: Path) -> str:
    """Write 8 synthetic clips and a committed result of prepare_data; return its URI."""
    rows = synthetic_rows(path / "videos", num_clips=8, num_frames=12, heldout=range(7, 8))
    step = path / "objects/steps/prepare_data/0"
    commit(step.as_uri(), write_clips(step, path / "videos", rows))
    return step.as_uri()


def write_clips(folder: Path, videos: Path, rows: Iterable[ClipRow]) -> dict[str, str]:
    """Write what prepare_data leaves into the folder of a step; return its artifacts."""
    for name in ("clips", "videos"):
        (folder / "outputs" / name).mkdir(parents=True)
    write_clip_table(folder / "outputs/clips/clips.parquet", arrow_table(rows))
    (folder / "outputs/videos/videos.parquet").write_bytes(index_videos(videos))
    return {"clips": "outputs/clips", "videos": "outputs/videos"}
