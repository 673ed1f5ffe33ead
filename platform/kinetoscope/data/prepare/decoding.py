"""One pass over the frames of an opened video, under limits."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from kinetoscope.data.prepare.quarantine import QuarantinedError, timeout_detail
from kinetoscope.data.sources.even_frames import EvenFrames, Timing, timing_of
from kinetoscope.data.sources.frame_times import FrameTimes, frame_times
from kinetoscope.data.video.display import (
    Turn,
    UnsupportedTurnError,
    peculiarities,
    pixel_aspect,
    shown_stream,
    square_size,
    turn_of,
)
from kinetoscope.data.video.pace import Pace, Paced, declared_rates, num_even_frames, pace_of

if TYPE_CHECKING:
    from kinetoscope.data.config import LimitsConfig
    from kinetoscope.data.video.visits import Visit


# Decoders that mark frames as damaged. Of others, e.g. MJPEG's and VP8's, a damaged frame has what
# lay in memory, perhaps of another video, if they don't fail when they are told to.
_TELL_OF_DAMAGE = frozenset({"h264", "hevc"})


class DecodingError(Exception):
    """libav failed; the file itself may say why."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What decoding a whole video found.

    Attributes:
        num_frames: frames visited: at even times.
        height: of the frames as they are shown, in pixels; likewise ``width``.
        fps: frames per second of the visited frames.
        own_fps: the video's own frame rate.
        times: of the decoded frames.
        even: how decoded frames are taken at even times; None where each is visited once.
        shown: how the shown frames differ from those stored, and what else they are (`display`).
    """

    num_frames: int
    height: int
    width: int
    fps: float
    own_fps: float
    times: FrameTimes | None = None
    even: EvenFrames | None = None
    shown: tuple[str, ...] = ()


class Decoding:
    """One pass over a container."""

    def __init__(
        self, container: Any, limits: LimitsConfig, fps: float | None, deadline: float
    ) -> None:
        self._container = container
        self._limits = limits
        self._fps = fps
        self._deadline = deadline
        self._stream = _video_stream(container)
        self._declared = _declared_frames(container, self._stream)
        self._num_frames = 0
        self._known_times: list[int | None] = []
        self._num_damaged = 0
        self._aspect = pixel_aspect(self._stream)
        self._turn: Turn | None = None
        self._size = (0, 0)
        self._shown: set[str] = set()
        self._discarded = 0

    @property
    def hides_damage(self) -> bool:
        """Whether the decoder does not mark the frames that are damaged."""
        return self._stream.codec_context.name not in _TELL_OF_DAMAGE

    def likely_pace(self) -> Pace:
        """Return the pace that the header lets expect."""
        declared = next((float(rate) for rate in declared_rates(self._stream) if rate), 0.0)
        return pace_of(Timing(declared, even=True), self._fps, self._stream.time_base)

    def run(self, visit: Visit | None, pace: Pace) -> Pace:
        """Decode all, visit frames at a pace, and judge; return the pace that is the right one."""
        context = self._stream.codec_context
        # One thread: files are decoded in parallel, and equal input must give equal frames.
        context.thread_count = 1
        if self.hides_damage:
            context.options = {"err_detect": "explode"}
        self._height, self._width = context.height, context.width
        self._visit, self._paced = visit, Paced(pace)
        self._check_header()
        failure = self._decode()
        base = self._stream.time_base
        self._times = frame_times(self._known_times, self._frame_distance())
        self._timing = timing_of(self._known_times, base, declared_rates(self._stream))
        self._check_complete(failure)
        right = pace_of(self._timing, self._fps, base if self._times is not None else None)
        if pace == right and pace.distance is not None:
            count = num_even_frames(pace, self._paced.last, self._timing.rate, base)
            self._show(self._paced.finish(count))
        return right

    def info(self, pace: Pace) -> VideoInfo:
        """Return what was found, once it was decoded at the right pace."""
        least, count = self._limits.min_frames, self._paced.num_given
        if count < least:
            raise QuarantinedError("too_few_frames", f"{count} frames; min_frames {least}")
        asked = pace.distance is not None and self._fps
        return VideoInfo(
            count,
            *self._size,
            fps=asked or self._timing.rate,
            own_fps=self._timing.rate,
            times=self._times,
            even=pace.ratio and EvenFrames(pace.ratio, self._num_frames),
            shown=tuple(sorted(self._shown)),
        )

    def _frame_distance(self) -> Fraction:
        """Return the distance of frames by the declared frame rate, in units of time."""
        base, rate = self._stream.time_base, self._stream.average_rate
        return Fraction(1 / (base * rate)) if base and rate else Fraction()

    def _check_header(self) -> None:
        limits, height, width = self._limits, self._height, self._width
        if max(height, width) > limits.max_side_px or height * width > limits.max_pixels:
            allowed = f"max_side_px {limits.max_side_px}, max_pixels {limits.max_pixels}"
            raise QuarantinedError("too_large", f"frames of {width}x{height}; {allowed}")
        seconds = (self._container.duration or 0) / av.time_base
        if seconds > limits.max_duration_seconds:
            allowed = f"max_duration_seconds {limits.max_duration_seconds:g}"
            raise QuarantinedError("too_large", f"{seconds:.1f} s; {allowed}")
        self._check_frame_count(self._stream.frames)
        if self._fps is not None:
            self._check_frame_count(int(seconds * self._fps))

    def _check_frame_count(self, num_frames: int) -> None:
        if num_frames > self._limits.max_frames:
            raise QuarantinedError(
                "too_large", f"{num_frames} frames or more; max_frames {self._limits.max_frames}"
            )

    def _decode(self) -> str | None:
        """Visit every frame; return why decoding ended early, or None."""
        try:
            for packet in self._container.demux():
                if packet.stream.index == self._stream.index:
                    self._discarded += packet.size > 0 and packet.is_discard
                    for frame in packet.decode():
                        self._take(frame)
        except av.FFmpegError as error:
            return why(error)
        return None

    def _take(self, frame: av.VideoFrame) -> None:
        if (frame.height, frame.width) != (self._height, self._width):
            sizes = f"{self._width}x{self._height} to {frame.width}x{frame.height}"
            raise QuarantinedError("unreadable", f"the frame size changes from {sizes}")
        if time.monotonic() > self._deadline:
            raise QuarantinedError("hostile", timeout_detail(self._limits))
        self._num_damaged += frame.is_corrupt
        self._num_frames += 1
        self._known_times.append(frame.pts)
        self._check_frame_count(self._num_frames)
        self._look_at(frame)
        self._show(self._paced.push(frame))

    def _show(self, frames: Iterable[av.VideoFrame]) -> None:
        for frame in frames:
            self._check_frame_count(self._paced.num_given)
            if self._visit is not None:
                self._visit(frame, self._aspect)

    def _look_at(self, frame: av.VideoFrame) -> None:
        """Note how the frame is shown; all are shown alike."""
        try:
            turn = turn_of(frame)
        except UnsupportedTurnError as error:
            raise QuarantinedError("unreadable", str(error)) from error
        if self._turn is None:
            height, width = square_size(frame.height, frame.width, self._aspect)
            self._turn, self._size = turn, (width, height) if turn.transposed else (height, width)
        if turn != self._turn:
            raise QuarantinedError("unreadable", "frames are turned in more than one way")
        self._shown.update(peculiarities(frame, self._aspect, turn))

    def _check_complete(self, failure: str | None) -> None:
        # Frames that an edit list hides are declared but rightly not shown.
        declared = self._declared - self._discarded
        if failure is None and self._num_damaged:
            failure = f"{self._num_damaged} of {self._num_frames} frames are damaged"
        because = f" ({failure})" if failure else ""
        if self._num_frames < declared:
            detail = f"{self._num_frames} of {declared} declared frames can be decoded{because}"
            raise QuarantinedError("truncated", detail)
        if failure:
            raise DecodingError(failure)
        if not self._num_frames:
            raise QuarantinedError("zero_length", "the video stream holds no frame")
        if self._timing.rate <= 0:
            raise QuarantinedError("unreadable", "no frame rate can be told")


def _declared_frames(container: Any, stream: Any) -> int:
    """Return how many frames the file has by its table of samples; 0 where it has no such table.

    What other containers' headers promise is often wrong, e.g. in AVI files of copied H.264.
    """
    if "mp4" not in container.format.name:
        return 0
    # Of the frames that an edit list cuts off, most are not even in libav's index.
    return min(int(stream.frames), len(stream.index_entries))


def _video_stream(container: Any) -> Any:
    stream = shown_stream(container)
    if stream is None:
        if container.streams.video:
            raise QuarantinedError("no_video_stream", "only a cover picture")
        kinds = sorted({stream.type for stream in container.streams})
        raise QuarantinedError("no_video_stream", f"streams: {', '.join(kinds) or 'none'}")
    if stream.codec_context is None:
        raise QuarantinedError("unreadable", "no decoder for its video codec")
    return stream


def why(error: Exception) -> str:
    """Return libav's words without the file's name."""
    strerror = getattr(error, "strerror", None)
    return str(strerror or error)
