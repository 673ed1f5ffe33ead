"""From measured videos to the rows of the clip table."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.core.errors import DataError
from kinetoscope.data.captions.fallback import caption_for
from kinetoscope.data.clip_table import ClipRow
from kinetoscope.data.conditioning import condition_text
from kinetoscope.data.duplicates.groups import group_clips
from kinetoscope.data.prepare.filters import drop_reason
from kinetoscope.data.prepare.split import split_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinetoscope.data.captions.found import Captions
    from kinetoscope.data.captions.rows import Caption
    from kinetoscope.data.clip_table import Split
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

        Where all come from one video, its takes are split, and clips for training that go on where
        a held-out one ends, or the other way round, are dropped as far as half of them stay.

        Raises:
            DataError: the clips can't be split.
        """
        groups = self._groups(config)
        sides = self._sides(groups, config, seed)
        if self.of_one_video:
            self._leave_gaps(groups, sides)
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
            for clip, group, split in zip(self.candidates, groups, sides, strict=True)
        ]

    @property
    def of_one_video(self) -> bool:
        """Whether all clips come from one video."""
        return len({clip.digest for clip in self.candidates}) == 1

    def _groups(self, config: PrepareDataConfig) -> list[int]:
        signatures = [base64.b64decode(clip.scene.signature) for clip in self.candidates]
        rows = np.stack([np.frombuffer(data, np.uint8) for data in signatures])
        near = config.near_duplicates
        alike = [
            f"take {clip.scene.shot}" if self.of_one_video else clip.source.name
            for clip in self.candidates
        ]
        groups = group_clips(alike, rows, near.max_distance if near.enabled else None)
        return [int(group) for group in groups]

    def _sides(self, groups: list[int], config: PrepareDataConfig, seed: int) -> list[Split]:
        if len(set(groups)) == 1:
            raise self._one_group()
        keys = [clip.clip_id if self.of_one_video else clip.digest for clip in self.candidates]
        fraction = config.split.heldout_fraction
        return split_groups(groups, keys, fraction=fraction, seed=seed)

    def _leave_gaps(self, groups: list[int], sides: list[Split]) -> None:
        """Drop clips for training that touch a held-out one."""
        scenes = [clip.scene for clip in self.candidates]
        heldout = [scene for scene, side in zip(scenes, sides, strict=True) if side == "heldout"]
        ends = {scene.start for scene in heldout} | {s.start + s.num_frames for s in heldout}
        touching = [
            index
            for index, (scene, side) in enumerate(zip(scenes, sides, strict=True))
            if side == "train" and ends & {scene.start, scene.start + scene.num_frames}
        ]
        if 2 * len(touching) > sides.count("train"):
            return
        for index in reversed(touching):
            del self.candidates[index], groups[index], sides[index]
        self.dropped["next_to_heldout"] += len(touching)

    def _one_group(self) -> DataError:
        count = len(self.candidates)
        clips = f"all {count} clips are" if count > 1 else "the only clip is"
        more = "add a video that shows something else"
        if self.of_one_video and len({clip.scene.shot for clip in self.candidates}) == 1:
            what = f"{clips} of one take of one video, {self.candidates[0].source.name}"
            hint = f"{more}, or lower prepare_data.scenes.adaptive_threshold if it has cuts"
        else:
            what = f"{clips} near-duplicates of each other"
            hint = f"{more}, lower near_duplicates.max_distance, or switch it off (enabled: false)"
        return DataError(f"{what}: none can be held out from training", hint=hint)


def select_clips(
    videos: Sequence[SourceFile],
    found: Examined,
    captions: Captions,
    config: PrepareDataConfig,
) -> Selection:
    """Choose the clips that pass the filters.

    Args:
        videos: of the place that may be opened, sorted by name.
        found: what they are; quarantined videos have no clips.
        captions: of the videos.
        config: of the step.
    """
    selection = Selection()
    usable = [video for video in videos if found.verdict(video).reason is None]
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
