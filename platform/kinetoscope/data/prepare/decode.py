"""Decodes a video of unknown origin under limits, and says whether it can be used.

The file is opened as a file object with a whitelist of containers, so that nothing in it can make
libav open another file or a network address (playlists, external tracks).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import av

from kinetoscope.data.prepare.structure import is_cut_off, names_files, other_kind
from kinetoscope.data.sources.frame_times import FrameTimes, frame_times, rate_of
from kinetoscope.data.sources.reader import OPEN_OPTIONS
from kinetoscope.data.video.display import (
    Turn,
    UnsupportedTurnError,
    peculiarities,
    pixel_aspect,
    shown_stream,
    square_size,
    turn_of,
)

if TYPE_CHECKING:
    from kinetoscope.data.config import LimitsConfig
    from kinetoscope.data.sources.reader import SeekableFile

# Others, e.g. MJPEG's and VP8's, show what lay in memory unless they are told to fail.
_TELL_OF_DAMAGE = frozenset({"h264", "hevc"})
Reason = Literal[
    "zero_length",
    "unreadable",
    "no_video_stream",
    "truncated",
    "too_few_frames",
    "too_large",
    "hostile",
]


class QuarantinedError(Exception):
    """A video can't be used.

    Args:
        reason: one word for counting.
        detail: one sentence with the numbers.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What decoding a whole video found.

    Attributes:
        height: of the frames as they are shown, in pixels; likewise ``width``.
        shown: how the shown frames differ from those stored, and what else they are (`display`).
    """

    num_frames: int
    height: int
    width: int
    fps: float
    times: FrameTimes | None = None
    shown: tuple[str, ...] = ()


Visit = Callable[[av.VideoFrame, Fraction], None]
"""Takes a decoded frame and the aspect of its pixels."""


def probe(
    file: SeekableFile,
    limits: LimitsConfig,
    visit: Visit | None = None,
) -> VideoInfo:
    """Decode the first video stream to its end.

    Args:
        file: the video, open for reading.
        limits: anything beyond is refused, as far as possible before it is decoded.
        visit: called with every frame, in display order.

    Raises:
        QuarantinedError: the file can't be used.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    if size_bytes == 0:
        raise QuarantinedError("zero_length", "the file is empty")
    if size_bytes > limits.max_file_bytes:
        raise QuarantinedError(
            "too_large", f"{size_bytes} bytes; limit {limits.max_file_bytes} (max_file_bytes)"
        )
    if names_files(file):
        raise QuarantinedError("hostile", "a text that names other files, as playlists do")
    if (kind := other_kind(file)) is not None:
        raise QuarantinedError("unreadable", f"it is {kind}, whatever its name says")
    file.seek(0)
    try:
        with _open(file) as container:
            info = _Decoding(container, limits, visit).run()
    except _DecodingError as error:
        _refuse_cut_off(file, size_bytes)
        raise QuarantinedError("unreadable", str(error)) from error
    except QuarantinedError as error:
        if error.reason in ("too_few_frames", "zero_length"):
            _refuse_cut_off(file, size_bytes)
        raise
    _refuse_cut_off(file, size_bytes)
    return info


def _refuse_cut_off(file: SeekableFile, size_bytes: int) -> None:
    if is_cut_off(file, size_bytes):
        detail = f"the file ends inside a part of it, after {size_bytes} bytes"
        raise QuarantinedError("truncated", detail)


class _DecodingError(Exception):
    """libav failed; the file itself may say why."""


@contextmanager
def _open(file: SeekableFile) -> Iterator[Any]:
    try:
        container = av.open(file, options=OPEN_OPTIONS)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise _DecodingError(_why(error)) from error
    with container:
        yield container


class _Decoding:
    """One pass over a container."""

    def __init__(
        self,
        container: Any,
        limits: LimitsConfig,
        visit: Visit | None,
    ) -> None:
        self._container = container
        self._limits = limits
        self._visit = visit
        self._deadline = time.monotonic() + limits.timeout_seconds
        self._stream = _video_stream(container)
        self._declared = _declared_frames(container, self._stream)
        self._fps = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self._num_frames = 0
        self._times: list[int | None] = []
        self._num_damaged = 0
        self._aspect = pixel_aspect(self._stream)
        self._turn: Turn | None = None
        self._size = (0, 0)
        self._shown: set[str] = set()
        self._discarded = 0

    def run(self) -> VideoInfo:
        """Decode all and judge."""
        context = self._stream.codec_context
        # One thread: files are decoded in parallel, and equal input must give equal frames.
        context.thread_count = 1
        if context.name not in _TELL_OF_DAMAGE:
            context.options = {"err_detect": "explode"}
        self._height, self._width = context.height, context.width
        self._check_header()
        failure = self._decode()
        self._check_complete(failure)
        if self._num_frames < self._limits.min_frames:
            raise QuarantinedError(
                "too_few_frames", f"{self._num_frames} frames; min_frames {self._limits.min_frames}"
            )
        times = frame_times(self._times, self._frame_distance())
        self._fps = rate_of(self._times, self._stream.time_base, self._fps)
        return VideoInfo(
            self._num_frames, *self._size, self._fps, times, shown=tuple(sorted(self._shown))
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
            return _why(error)
        return None

    def _take(self, frame: av.VideoFrame) -> None:
        if (frame.height, frame.width) != (self._height, self._width):
            sizes = f"{self._width}x{self._height} to {frame.width}x{frame.height}"
            raise QuarantinedError("unreadable", f"the frame size changes from {sizes}")
        if time.monotonic() > self._deadline:
            raise QuarantinedError("hostile", timeout_detail(self._limits))
        self._num_damaged += frame.is_corrupt
        self._num_frames += 1
        self._times.append(frame.pts)
        self._check_frame_count(self._num_frames)
        self._look_at(frame)
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
            raise _DecodingError(failure)
        if not self._num_frames:
            raise QuarantinedError("zero_length", "the video stream holds no frame")
        if self._fps <= 0:
            raise QuarantinedError("unreadable", "no frame rate can be told")


def _declared_frames(container: Any, stream: Any) -> int:
    """Return how many frames the file has by its table of samples; 0 where it has no such table.

    What other containers' headers promise is often wrong, e.g. in AVI files of copied H.264.
    """
    if "mp4" not in container.format.name:
        return 0
    # Of the frames that an edit list cuts off, most are not even in libav's index.
    return min(int(stream.frames), len(stream.index_entries))


def timeout_detail(limits: LimitsConfig) -> str:
    """Say that a file took too long."""
    return f"not decoded within {limits.timeout_seconds:g} s (timeout_seconds)"


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


def _why(error: Exception) -> str:
    """Return libav's words without the file's name."""
    strerror = getattr(error, "strerror", None)
    return str(strerror or error)
