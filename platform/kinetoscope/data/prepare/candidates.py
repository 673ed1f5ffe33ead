"""All clips of the usable videos, as columns."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from kinetoscope.data.captions.fallback import caption_for
from kinetoscope.data.duplicates.signature import SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from kinetoscope.data.captions.found import Captions
    from kinetoscope.data.config import PrepareDataConfig
    from kinetoscope.data.prepare.examine import Examined
    from kinetoscope.data.sources.listing import SourceFile

_COLUMNS = {
    "clip_id": pl.String,
    "video": pl.String,
    "digest": pl.String,
    "start_frame": pl.Int64,
    "num_frames": pl.Int64,
    "shot": pl.Int64,
    "fps": pl.Float64,
    "own_fps": pl.Float64,
    "height": pl.Int64,
    "width": pl.Int64,
    "caption": pl.String,
    "origin": pl.String,
    "reason": pl.String,
}


_NO_SIGNATURES = np.empty((0, SIGNATURE.itemsize), np.uint8)


class Clips(NamedTuple):
    """Clips, in the order of their videos' names and of their starts.

    Attributes:
        table: a row a clip: ``clip_id``, ``video``, ``digest``, ``start_frame``, ``num_frames``,
            ``shot``, ``fps``, ``own_fps`` (of its video), ``height``, ``width``, ``caption`` and
            its ``origin`` (null where it has none), ``reason`` (why it is dropped; null where it is
            not), and a column for each score.
        signatures: uint8, a row a clip (``duplicates.signature``).
    """

    table: pl.DataFrame
    signatures: npt.NDArray[np.uint8]


def gather_clips(
    videos: Sequence[SourceFile], found: Examined, captions: Captions, config: PrepareDataConfig
) -> Clips:
    """Gather the clips; copies of a video, and clips without a caption, get their reason here.

    Args:
        videos: of the place that may be opened, sorted by name.
        found: what they are; quarantined videos have no clips.
        captions: of the videos.
        config: of the step.
    """
    usable = [video for video in videos if found.verdict(video).reason is None]
    taken = _one_of_each(usable, found, captions)
    rows: list[dict[str, Any]] = []
    signatures = []
    for source in usable:
        video, digest = found.verdict(source), found.digests[source.name]
        caption = caption_for(source.name, captions, config.captions)
        reason = "no_caption" if caption is None else None
        shared = {
            "video": source.name,
            "digest": digest,
            "fps": video.fps,
            "own_fps": video.own_fps,
            "height": video.height,
            "width": video.width,
            "caption": caption and caption.text,
            "origin": caption and caption.origin,
            "reason": "exact_duplicate" if taken[digest] != source.name else reason,
        }
        if not video.scenes:
            rows.append(shared | _without_scene(digest, video.num_frames))
            signatures.append(np.zeros(SIGNATURE.itemsize, np.uint8))
        for scene in video.scenes:
            own = {
                "clip_id": f"{digest.removeprefix('sha256:')[:16]}-{scene.start:06d}",
                "start_frame": scene.start,
                "num_frames": scene.num_frames,
                "shot": scene.shot,
            }
            rows.append(shared | own | {name: scene.scores[name] for name in config.measured})
            signatures.append(np.frombuffer(base64.b64decode(scene.signature), np.uint8))
    schema = _COLUMNS | dict.fromkeys(config.measured, pl.Float64)
    table = pl.DataFrame(rows, schema=schema)
    return Clips(table, np.stack(signatures) if signatures else _NO_SIGNATURES)


def _without_scene(digest: str, num_frames: int) -> dict[str, Any]:
    """Return a row for a video that is nothing but fades and dissolves."""
    return {
        "clip_id": f"{digest.removeprefix('sha256:')[:16]}-000000",
        "start_frame": 0,
        "num_frames": num_frames,
        "shot": 0,
        "reason": "no_scene",
    }


def _one_of_each(
    videos: Iterable[SourceFile], found: Examined, captions: Captions
) -> dict[str, str]:
    """Return which video of each content is used: the first with a caption, or else the first."""
    taken: dict[str, str] = {}
    for video in videos:
        digest = found.digests[video.name]
        held = taken.setdefault(digest, video.name)
        if held not in captions.by_video and video.name in captions.by_video:
            taken[digest] = video.name
    return taken
