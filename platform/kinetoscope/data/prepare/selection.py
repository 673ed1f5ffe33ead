"""From measured videos to the rows of the clip table."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.data.captions.fallback import caption_for
from kinetoscope.data.clip_table import ClipRow
from kinetoscope.data.conditioning import condition_text
from kinetoscope.data.prepare.filters import drop_reason
from kinetoscope.data.prepare.near_duplicates import group_clips, normalize
from kinetoscope.data.prepare.split import split_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinetoscope.data.captions.found import Captions
    from kinetoscope.data.captions.rows import Caption
    from kinetoscope.data.config import PrepareDataConfig
    from kinetoscope.data.prepare.analysis import SceneAnalysis, VideoAnalysis
    from kinetoscope.data.prepare.examine import Examined
    from kinetoscope.data.sources.listing import SourceFile


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip that passed the filters."""

    clip_id: str
    source: SourceFile
    digest: str
    caption: Caption
    video: VideoAnalysis
    scene: SceneAnalysis


@dataclass(frozen=True, slots=True)
class Selection:
    """The clips to keep, in the order of their videos' names, and what was dropped."""

    candidates: list[Candidate] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def rows(self, config: PrepareDataConfig, seed: int) -> list[ClipRow]:
        """Group, split and condition the clips.

        Raises:
            DataError: the clips can't be split.
        """
        clips = self.candidates
        signatures = [base64.b64decode(clip.scene.signature) for clip in clips]
        vectors = normalize(np.stack([np.frombuffer(data, np.uint8) for data in signatures]))
        near = config.near_duplicates
        groups = group_clips(
            [clip.source.name for clip in clips],
            vectors,
            near.max_distance if near.enabled else None,
        )
        splits = split_groups(
            groups,
            [clip.digest for clip in clips],
            fraction=config.split.heldout_fraction,
            seed=seed,
        )
        return [
            ClipRow(
                clip_id=clip.clip_id,
                video=clip.source.name,
                start_frame=clip.scene.start,
                num_frames=clip.scene.num_frames,
                fps=clip.video.fps,
                height=clip.video.height,
                width=clip.video.width,
                caption=clip.caption.text,
                text=_text(clip, config),
                motion_score=clip.scene.motion,
                quality_score=clip.scene.quality,
                split=split,
                group=group,
                digest=clip.digest,
            )
            for clip, group, split in zip(clips, groups, splits, strict=True)
        ]


def select_clips(
    videos: Sequence[SourceFile],
    found: Examined,
    captions: Captions,
    config: PrepareDataConfig,
) -> Selection:
    """Choose the clips that pass the filters.

    Args:
        videos: of the place, sorted by name.
        found: what they are; quarantined videos have no clips.
        captions: of the videos.
        config: of the step.
    """
    selection = Selection()
    usable = [v for v in videos if not v.refused and found.verdict(v).reason is None]
    taken = _one_of_each(usable, found, captions)
    for source in usable:
        video, digest = found.verdict(source), found.digests[source.name]
        caption = caption_for(source.name, captions, config.captions)
        repeated = taken[digest] != source.name
        for scene in video.scenes:
            reason = drop_reason(video, scene, config.filters)
            if repeated or caption is None or reason is not None:
                missing = "no_caption" if caption is None else reason
                selection.dropped["exact_duplicate" if repeated else str(missing)] += 1
                continue
            clip_id = f"{digest.removeprefix('sha256:')[:16]}-{scene.start:06d}"
            selection.candidates.append(Candidate(clip_id, source, digest, caption, video, scene))
    return selection


def _one_of_each(
    videos: Sequence[SourceFile], found: Examined, captions: Captions
) -> dict[str, str]:
    """Return which video of each content is used: the first with a caption, or else the first."""
    taken: dict[str, str] = {}
    for video in videos:
        digest = found.digests[video.name]
        held = taken.setdefault(digest, video.name)
        if held not in captions.by_video and video.name in captions.by_video:
            taken[digest] = video.name
    return taken


def _text(clip: Candidate, config: PrepareDataConfig) -> str:
    scores = {"motion": clip.scene.motion, "quality": clip.scene.quality}
    if not config.conditioning:
        return clip.caption.text
    return condition_text(clip.caption.text, {name: scores[name] for name in config.conditioning})
