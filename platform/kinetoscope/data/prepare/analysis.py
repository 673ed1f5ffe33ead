"""One pass over a video: its scenes, and the scores, signature and thumbnail of each."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from kinetoscope.core.config_model import Record
from kinetoscope.data.duplicates.signature import signature
from kinetoscope.data.prepare.decode import probe
from kinetoscope.data.prepare.quarantine import QuarantinedError, Reason
from kinetoscope.data.scorers.base import WORKING_SIDE_PX, WorkingFrame, fit_within
from kinetoscope.data.scorers.registry import scorer_types
from kinetoscope.data.shots.scenes import Scene, SceneCutter
from kinetoscope.data.sources.even_frames import EvenFrames
from kinetoscope.data.sources.frame_times import FrameTimes
from kinetoscope.data.video.display import square_size, turn_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction

    import av
    import numpy.typing as npt

    from kinetoscope.data.config import PrepareDataConfig
    from kinetoscope.data.sources.reader import SeekableFile
    from kinetoscope.data.video.visits import Visit

ANALYSIS_REVISION = 3
"""Raised when the same video and settings give another verdict than before."""

# Frames of the signature, as fractions of the scene.
_SIGNATURE_TIMES = (0.125, 0.375, 0.625, 0.875)
_THUMBNAIL_SIDE_PX = 96
# A long video keeps a thumbnail of every second, fourth, ... frame: memory stays bounded.
_MAX_THUMBNAILS = 4096


class SceneAnalysis(Record):
    """A scene's frames ``[start, start + num_frames)`` and what was measured on them."""

    start: int
    num_frames: int
    shot: int
    """Number of the take that it is a piece of."""
    scores: dict[str, float | None]
    """None where a scorer gives no number."""
    signature: str
    """Base64 of uint8 (see ``duplicates.signature``)."""
    thumbnail: str
    """Base64 of a JPEG."""


class VideoAnalysis(Record):
    """A video's verdict: measured scenes, or why it is quarantined."""

    size_bytes: int = 0
    blocks: str = ""
    """Base64 of the digests of its blocks (``sources.blocks``)."""
    num_frames: int = 0
    height: int = 0
    width: int = 0
    fps: float = 0.0
    own_fps: float = 0.0
    shown: tuple[str, ...] = ()
    """What is told of how its frames are shown (``video.display.peculiarities``)."""
    times: FrameTimes | None = None
    even: EvenFrames | None = None
    scenes: tuple[SceneAnalysis, ...] = ()
    measured: dict[str, int] = {}
    """Revisions of the scorers of the scenes' scores."""
    reason: Reason | None = None
    detail: str = ""

    def missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return which of these scores its scenes lack."""
        if self.reason is not None:
            return ()
        types = scorer_types()
        return tuple(n for n in names if self.measured.get(n) != types[n].score.revision)

    def without_pictures(self) -> VideoAnalysis:
        """Return it without thumbnails, which are most of its bytes."""
        scenes = tuple(scene.model_copy(update={"thumbnail": ""}) for scene in self.scenes)
        return self.model_copy(update={"scenes": scenes})


def analyze(
    file: SeekableFile, config: PrepareDataConfig, known: VideoAnalysis | None = None
) -> VideoAnalysis:
    """Decode a video once and measure its scenes; a video that can't be used says why.

    Args:
        file: the video.
        config: of the step.
        known: what was found under these settings before; it gets the scores that it lacks.
    """
    missing = config.measured if known is None else known.missing(config.measured)
    passes: list[_Measuring] = []

    def begin() -> Visit:
        passes[:] = [_Measuring(config, missing, cuts=known is None)]
        return passes[0].visit

    try:
        info = probe(file, config.limits, begin, fps=config.fps)
    except QuarantinedError as error:
        return VideoAnalysis(reason=error.reason, detail=error.detail)
    revisions = {name: scorer_types()[name].score.revision for name in missing}
    if known is not None:
        scenes = tuple(map(passes[0].scored, known.scenes))
        measured = known.measured | revisions
        return known.model_copy(update={"scenes": scenes, "measured": measured})
    return VideoAnalysis(
        num_frames=info.num_frames,
        height=info.height,
        width=info.width,
        fps=info.fps,
        own_fps=info.own_fps,
        scenes=tuple(passes[0].scenes()),
        measured=revisions,
        times=info.times,
        even=info.even,
        shown=info.shown,
    )


class _Measuring:
    """Collects what the scenes need while frames pass by.

    Args:
        config: of the step.
        scores: to measure.
        cuts: whether scenes are to be found, and seen again by their pictures.
    """

    def __init__(self, config: PrepareDataConfig, scores: Iterable[str], *, cuts: bool) -> None:
        # One for all frames: a frame's own would set up swscale again for each.
        self._reformatter = VideoReformatter()
        self._cutter = SceneCutter(config.scenes) if cuts else None
        self._scorers = {name: scorer_types()[name]() for name in scores}
        self._num_frames = 0
        self._thumbnails: list[npt.NDArray[np.uint8]] = []
        self._stride = 1
        self._last: tuple[av.VideoFrame, WorkingFrame] | None = None

    def visit(self, frame: av.VideoFrame, aspect: Fraction) -> None:
        """Measure one frame, as it is shown, at the working size."""
        working = self._working(frame, aspect)
        if self._cutter is not None:
            self._keep_thumbnail(working.rgb)
            self._cutter.push(working.rgb)
        for scorer in self._scorers.values():
            scorer.push(working)
        self._num_frames += 1

    def scenes(self) -> list[SceneAnalysis]:
        """Sum up each scene."""
        assert self._cutter is not None
        return [self._scene(scene) for scene in self._cutter.scenes()]

    def scored(self, scene: SceneAnalysis) -> SceneAnalysis:
        """Return a scene with the scores added that were measured."""
        scores = scene.scores | self._scores(scene.start, scene.start + scene.num_frames)
        return scene.model_copy(update={"scores": dict(sorted(scores.items()))})

    def _scores(self, start: int, end: int) -> dict[str, float | None]:
        measured = {name: scorer.measure(start, end) for name, scorer in self._scorers.items()}
        return {name: value if math.isfinite(value) else None for name, value in measured.items()}

    def _scene(self, scene: Scene) -> SceneAnalysis:
        frames = [self._thumbnail(scene, time) for time in _SIGNATURE_TIMES]
        _, jpeg = cv2.imencode(".jpg", self._thumbnail(scene, 0.5)[..., ::-1])
        return SceneAnalysis(
            start=scene.start,
            num_frames=scene.end - scene.start,
            shot=scene.shot,
            scores=self._scores(scene.start, scene.end),
            signature=base64.b64encode(signature(frames).tobytes()).decode(),
            thumbnail=base64.b64encode(np.asarray(jpeg).tobytes()).decode(),
        )

    def _working(self, frame: av.VideoFrame, aspect: Fraction) -> WorkingFrame:
        # A frame that is repeated to fill its time is measured as one that is the same.
        if self._last is None or self._last[0] is not frame:
            rgb = self._shrink(frame, aspect)
            gray = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
            self._last = frame, WorkingFrame(rgb, gray)
        return self._last[1]

    def _shrink(self, frame: av.VideoFrame, aspect: Fraction) -> npt.NDArray[np.uint8]:
        height, width = square_size(frame.height, frame.width, aspect)
        scale = min(1.0, WORKING_SIDE_PX / max(height, width))
        small = self._reformatter.reformat(
            frame,
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            format="rgb24",
            interpolation=Interpolation.AREA,
        )
        image: Any = small.to_ndarray()
        return turn_of(frame).apply(np.asarray(image, dtype=np.uint8))

    def _keep_thumbnail(self, image: npt.NDArray[np.uint8]) -> None:
        if self._num_frames % self._stride:
            return
        self._thumbnails.append(fit_within(image, _THUMBNAIL_SIDE_PX))
        if len(self._thumbnails) > _MAX_THUMBNAILS:
            self._thumbnails = self._thumbnails[::2]
            self._stride *= 2

    def _thumbnail(self, scene: Scene, time: float) -> npt.NDArray[np.uint8]:
        frame = scene.start + int(time * (scene.end - scene.start))
        return self._thumbnails[min(frame // self._stride, len(self._thumbnails) - 1)]
