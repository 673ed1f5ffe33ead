"""One pass over a video: its scenes, and the scores, signature and thumbnail of each."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from kinetoscope.core.config_model import Record
from kinetoscope.data.duplicates.signature import signature
from kinetoscope.data.prepare.decode import QuarantinedError, Reason, probe
from kinetoscope.data.prepare.scenes import Scene, SceneCutter
from kinetoscope.data.prepare.scorers.base import Scorer
from kinetoscope.data.prepare.scorers.motion import WORKING_SIDE_PX, MotionScorer
from kinetoscope.data.prepare.scorers.quality import QualityScorer
from kinetoscope.data.sources.frame_times import FrameTimes
from kinetoscope.data.video.display import square_size, turn_of

if TYPE_CHECKING:
    from fractions import Fraction

    import av
    import numpy.typing as npt

    from kinetoscope.data.config import PrepareDataConfig
    from kinetoscope.data.sources.reader import SeekableFile

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
    motion: float
    quality: float
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
    shown: tuple[str, ...] = ()
    """What is told of how its frames are shown (``video.display.peculiarities``)."""
    times: FrameTimes | None = None
    scenes: tuple[SceneAnalysis, ...] = ()
    reason: Reason | None = None
    detail: str = ""


def analyze(file: SeekableFile, config: PrepareDataConfig) -> VideoAnalysis:
    """Decode a video once and measure its scenes; a video that can't be used says why."""
    measuring = _Measuring(config)
    try:
        info = probe(file, config.limits, measuring.visit)
    except QuarantinedError as error:
        return VideoAnalysis(reason=error.reason, detail=error.detail)
    return VideoAnalysis(
        num_frames=info.num_frames,
        height=info.height,
        width=info.width,
        fps=info.fps,
        scenes=tuple(measuring.scenes()),
        times=info.times,
        shown=info.shown,
    )


class _Measuring:
    """Collects what the scenes need while frames pass by."""

    def __init__(self, config: PrepareDataConfig) -> None:
        # One for all frames: a frame's own would set up swscale again for each.
        self._reformatter = VideoReformatter()
        self._cutter = SceneCutter(config.scenes)
        self._motion, self._quality = MotionScorer(), QualityScorer()
        self._num_frames = 0
        self._thumbnails: list[npt.NDArray[np.uint8]] = []
        self._stride = 1

    def visit(self, frame: av.VideoFrame, aspect: Fraction) -> None:
        """Measure one frame, as it is shown, at the working size."""
        image = self._shrink(frame, aspect)
        gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        self._keep_thumbnail(image)
        self._cutter.push(image)
        scorers: tuple[Scorer, ...] = (self._motion, self._quality)
        for scorer in scorers:
            scorer.push(gray)
        self._num_frames += 1

    def scenes(self) -> list[SceneAnalysis]:
        """Sum up each scene."""
        return [self._scene(scene) for scene in self._cutter.scenes()]

    def _scene(self, scene: Scene) -> SceneAnalysis:
        frames = [self._thumbnail(scene, time) for time in _SIGNATURE_TIMES]
        _, jpeg = cv2.imencode(".jpg", self._thumbnail(scene, 0.5)[..., ::-1])
        return SceneAnalysis(
            start=scene.start,
            num_frames=scene.end - scene.start,
            shot=scene.shot,
            motion=self._motion.score(scene),
            quality=self._quality.score(scene),
            signature=base64.b64encode(signature(frames).tobytes()).decode(),
            thumbnail=base64.b64encode(np.asarray(jpeg).tobytes()).decode(),
        )

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
        self._thumbnails.append(_resize(image, _THUMBNAIL_SIDE_PX))
        if len(self._thumbnails) > _MAX_THUMBNAILS:
            self._thumbnails = self._thumbnails[::2]
            self._stride *= 2

    def _thumbnail(self, scene: Scene, time: float) -> npt.NDArray[np.uint8]:
        frame = scene.start + int(time * (scene.end - scene.start))
        return self._thumbnails[min(frame // self._stride, len(self._thumbnails) - 1)]


def _resize(image: npt.NDArray[np.uint8], side_px: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = min(1.0, side_px / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)
