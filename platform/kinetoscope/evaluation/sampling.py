"""Generates planned clips into a step's store, and reads back what was stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinetoscope.core.errors import PreemptedError
from kinetoscope.data.video.files import read_video, write_video
from kinetoscope.inference.config import ClipRequest
from kinetoscope.storage.open import as_local

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinetoscope.data.video.display import Frames
    from kinetoscope.evaluation.sample_plan import PlannedClip
    from kinetoscope.inference.pipeline import TextToVideo
    from kinetoscope.steps.worker import StepContext

CLIP_CRF = 6
"""x264's constant rate factor of measured clips: colours of a few pixels have to survive."""


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A generated clip.

    Attributes:
        plan: what was asked for.
        key: of the MP4 in the step's store.
        frames: as decoded from the MP4.
    """

    plan: PlannedClip
    key: str
    frames: Frames


class ClipMaker:
    """Generates clips below a key prefix; one that is stored already is only read.

    Args:
        ctx: of the step.
        prefix: key prefix of the MP4s.
        total: number of clips, for progress.
    """

    def __init__(self, ctx: StepContext, prefix: str, total: int) -> None:
        self._ctx = ctx
        self._prefix = prefix
        self._total = total
        self._done = 0

    def make(self, plan: PlannedClip, models: Callable[[], TextToVideo]) -> StoredClip:
        """Return a clip, generated unless a former attempt stored it.

        Raises:
            PreemptedError: the step was told to stop; finished clips stay.
        """
        if self._ctx.stop_requested:
            raise PreemptedError(f"stopped after {self._done} of {self._total} clips")
        key = f"{self._prefix}/{plan.name}"
        if self._ctx.store.stat(key) is None:
            self._generate(plan, key, models())
        self._done += 1
        self._ctx.progress(self._done, self._total, "clips", kind=plan.kind)
        path = as_local(self._ctx.store, key, self._ctx.scratch)
        frames, _ = read_video(path)
        return StoredClip(plan, key, frames)

    def _generate(self, plan: PlannedClip, key: str, models: TextToVideo) -> None:
        frames = models.generate(ClipRequest(prompt=plan.prompt, seed=plan.seed))
        path = self._ctx.scratch / "clip.mp4"
        write_video(path, frames, models.spec.fps, crf=CLIP_CRF)
        self._ctx.store.put_file(key, path)
