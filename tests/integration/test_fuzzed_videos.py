"""Mutated videos and decompression bombs, which may cost themselves and nothing else."""

from __future__ import annotations

import io
import random
from pathlib import Path

import psutil
import pytest
from tiny.ffmpeg import ffmpeg
from tiny.mutations import mutated, with_samples, with_size, write_seeds

from kinetoscope.core.units import MIB
from kinetoscope.data.clip_table import read_clip_table
from kinetoscope.data.config import LimitsConfig, PrepareDataConfig
from kinetoscope.data.prepare.analysis import analyze
from kinetoscope.data.prepare.prepare import prepare
from kinetoscope.data.prepare.prepared import Prepared, Source
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.storage.open import open_store

CONFIG = PrepareDataConfig(num_workers=2, limits=LimitsConfig(timeout_seconds=5))


def _prepared(videos: Path, out: Path, config: PrepareDataConfig = CONFIG) -> Prepared:
    place = DirectoryPlace(videos)
    scratch = out / "scratch"
    prepared = prepare(
        Source(place, place.list()), open_store(out.as_uri()), config, seed=0, scratch=scratch
    )
    assert list(scratch.iterdir()) == []
    assert [child for child in psutil.Process().children() if "spawn_main" in str(child)] == []
    return prepared


def _table(out: Path) -> bytes:
    return (out / "outputs/clips/clips.parquet").read_bytes()


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_a_mutated_video_is_used_or_quarantined_and_both_times_alike(
    tmp_path: Path, count: int
) -> None:
    videos = tmp_path / "videos"
    seeds = write_seeds(videos)
    chance = random.Random(count)  # noqa: S311
    for number in range(count):
        seed = seeds[number % len(seeds)]
        data = mutated(seed.read_bytes(), chance)
        (videos / f"{number:03}-{seed.name}").write_bytes(data)
    first = _prepared(videos, tmp_path / "first")
    assert first == _prepared(videos, tmp_path / "second")
    data = _table(tmp_path / "first")
    assert data == _table(tmp_path / "second")
    quarantined = {row.path for row in first.quarantine}
    assert all(row.reason and row.detail for row in first.quarantine)
    used = set(read_clip_table(data, "clips.parquet").video)
    assert not used & quarantined
    # What is neither is a copy of another, as far as its frames go.
    left = {path.name for path in videos.iterdir()} - used - quarantined
    assert len(left) <= sum(first.dropped.values())
    assert len(quarantined) > count // 4
    assert _size_bytes(tmp_path / "first") < 200_000 * (count + len(seeds))


def test_bombs_cost_little_memory_time_and_disk(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    seeds = {path.name: path.read_bytes() for path in write_seeds(videos)}
    whole = seeds["h264.mp4"]
    counts = (100_001, 10_000_000, 178_000_000, 2**32 - 1)
    for count in counts:
        (videos / f"samples-{count}.mp4").write_bytes(with_samples(whole, count))
    for width, height in ((65535, 65535), (8192, 2048), (65535, 1)):
        (videos / f"size-{width}x{height}.mov").write_bytes(
            with_size(seeds["png.mov"], width, height)
        )
    # A hundred times the same picture of 48 MB, of 60 kB each.
    black = "color=black:size=4096x4096:duration=1"
    ffmpeg("-f", "lavfi", "-i", black, "-frames:v", "1", "-c:v", "png", tmp_path / "one.mov")
    ffmpeg("-stream_loop", "99", "-i", tmp_path / "one.mov", "-c", "copy", videos / "long.mov")
    values = CONFIG.to_json() | {"near_duplicates": {"enabled": False}}
    values["limits"]["timeout_seconds"] = 2.0
    prepared = _prepared(videos, tmp_path / "out", PrepareDataConfig.model_validate(values))
    rows = {row.path: row for row in prepared.quarantine}
    # On a busy machine, reading the largest table may take as long as any file may.
    assert all(rows[f"samples-{count}.mp4"].reason in ("too_large", "hostile") for count in counts)
    assert rows["samples-100001.mp4"].reason == "too_large"
    assert "not decoded within 2 s" in rows["long.mov"].detail
    assert _size_bytes(tmp_path / "out") < 4 * MIB


def test_no_frame_of_a_damaged_video_shows_another_one(tmp_path: Path) -> None:
    """A decoder that leaves a part of a frame as it finds it in memory gives two results."""
    seeds = [path for path in write_seeds(tmp_path / "seeds") if path.stem in ("mjpeg", "vp8")]
    chance = random.Random(40)  # noqa: S311
    files = [mutated(seed.read_bytes(), chance) for seed in seeds for _ in range(40)]
    found: list[set[str]] = [set() for _ in files]
    for _ in range(4):
        for number in chance.sample(range(len(files)), len(files)):
            verdict = analyze(io.BytesIO(files[number]), CONFIG)
            found[number].add(verdict.to_bytes().decode())
    assert [len(verdicts) for verdicts in found] == [1] * len(files)
