"""Read windows of 17 frames out of a 1 GB video in a bucket, beside fetching the video first.

The server is started here, on this machine: ``minio`` on PATH or in ``KINO_TEST_MINIO``. A window
is read with an empty cache; requests and bytes are counted as they go over the wire, memory is what
this process grows by. The last line is JSON; exit code 1 when a window takes more than 8 MiB of
memory or 6 requests.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from s3_server import serve

from kinetoscope.data.config import LimitsConfig
from kinetoscope.data.prepare.decode import probe
from kinetoscope.data.sources.blocks import digest_blocks
from kinetoscope.data.sources.bucket import PrefixPlace
from kinetoscope.data.sources.cache import BlockCache
from kinetoscope.data.sources.directory import LocalBytes
from kinetoscope.data.sources.index import IndexedVideo, read_index, write_index
from kinetoscope.data.sources.reader import VerifiedFile
from kinetoscope.data.sources.videos import Videos
from kinetoscope.data.video.files import decode_window
from kinetoscope.storage.store import ObjectStore

MAX_BYTES = 8 * 2**20
MAX_REQUESTS = 6
NUM_FRAMES = 17
_NAME = "long.mp4"
_SIZE = (360, 640)
_GOP = 48


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    with (
        TemporaryDirectory(dir=options.folder, prefix="video-reads-") as folder,
        serve(Path(folder)) as server,
    ):
        path, store = Path(folder, _NAME), server.store
        num_frames = _write_long(path, options.video_mib * 2**20)
        store.put_file(_NAME, path)
        indexed = _index(path)
        size_bytes = indexed.blocks.size_bytes
        path.unlink()
        starts = _starts(options.windows, num_frames)
        windows = [_measure(store, indexed, start) for start in starts]
        whole_seconds, whole_requests = _fetch_whole(store, Path(folder, "copy"))
    worst = {name: max(window[name] for window in windows) for name in windows[0]}
    told = {f"window.{name}": value for name, value in worst.items()}
    told |= {
        "windows": len(windows),
        "video_bytes": size_bytes,
        "whole.seconds": round(whole_seconds, 3),
        "whole.requests": whole_requests,
        "bytes_ratio": round(worst["fetched_bytes"] / size_bytes, 5),
        "seconds_ratio": round(worst["seconds"] / whole_seconds, 4),
        "max_bytes": MAX_BYTES,
        "max_requests": MAX_REQUESTS,
    }
    print(json.dumps(told))
    good = worst["memory_bytes"] <= MAX_BYTES and worst["requests"] <= MAX_REQUESTS
    return int(not good)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--video-mib", type=int, default=1000)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="for the video and the server's data")
    return parser


def _starts(num_windows: int, num_frames: int) -> list[int]:
    """Return first frames of windows: at both ends, and all over the video."""
    last = num_frames - NUM_FRAMES
    middle = [random.Random(0).randrange(last) for _ in range(num_windows - 2)]  # noqa: S311
    return [0, *middle, last]


def _write_long(path: Path, size_bytes: int) -> int:
    """Write noise in groups of frames, again and again, the index last; return their number."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width = _SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {
            "crf": "18",
            "preset": "ultrafast",
            "x264-params": f"keyint={_GOP}:bframes=2:b-adapt=0",
        }
        packets = []
        for _ in range(2 * _GOP):
            image = rng.integers(0, 120, (*_SIZE, 3), dtype=np.uint8)
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        packets += stream.encode(None)
        kept = [(bytes(p), p.pts, p.dts, p.is_keyframe, p.time_base) for p in packets]
        num_turns = -(-size_bytes // sum(len(data) for data, *_ in kept))
        for turn in range(num_turns):
            for data, pts, dts, is_keyframe, time_base in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, time_base, is_keyframe
                shift = round(turn * len(kept) / 30 / time_base)
                packet.pts, packet.dts = (pts or 0) + shift, (dts or 0) + shift
                container.mux(packet)
    return num_turns * len(kept)


def _index(path: Path) -> IndexedVideo:
    source = LocalBytes(path)
    digests = digest_blocks(source)
    limits = LimitsConfig(timeout_seconds=3600)
    with VerifiedFile(source, digests, path.name) as file:
        info = probe(file, limits)
        return IndexedVideo(digests, info.times, info.even)


@dataclass
class _Wire(logging.Handler):
    """Counts what urllib3 says that it sent and received."""

    requests: int = 0
    fetched_bytes: int = 0
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.DEBUG)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line such as ``"GET /b/k HTTP/1.1" 206 1048576``."""
        found = re.search(r'" (\d{3}) (\d+|None)$', record.getMessage())
        if found:
            self.requests += 1
            self.fetched_bytes += int(found[2]) if found[2].isdigit() else 0


@contextmanager
def _counted() -> Iterator[_Wire]:
    logger, wire = logging.getLogger("urllib3.connectionpool"), _Wire()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(wire)
    try:
        yield wire
    finally:
        logger.removeHandler(wire)


def _measure(store: ObjectStore, indexed: IndexedVideo, start: int) -> dict[str, float]:
    """Read a window as training does, with an empty cache."""
    videos = Videos(PrefixPlace(store), read_index(write_index([indexed]), "index"), _no_cache())
    video = videos.video(_NAME, indexed.blocks.digest)
    tracemalloc.start()
    began = time.perf_counter()
    with _counted() as wire:
        frames = sum(1 for _ in decode_window(video, start, NUM_FRAMES))
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == NUM_FRAMES
    return {
        "requests": wire.requests,
        "fetched_bytes": wire.fetched_bytes,
        "memory_bytes": peak,
        "seconds": round(seconds, 4),
    }


def _no_cache() -> BlockCache:
    return BlockCache(Path(os.devnull), 0)


def _fetch_whole(store: ObjectStore, path: Path) -> tuple[float, int]:
    began = time.perf_counter()
    with _counted() as wire:
        store.get_file(_NAME, path)
    return time.perf_counter() - began, wire.requests


if __name__ == "__main__":
    sys.exit(main())
