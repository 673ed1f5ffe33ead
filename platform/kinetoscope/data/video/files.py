"""Read and write video files with PyAV (h264, yuv420p, BT.709 in limited range)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.stream import Discard
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
)

from kinetoscope.core.errors import DataError
from kinetoscope.data.sources.reader import OPEN_OPTIONS
from kinetoscope.data.video.display import (
    EXACT,
    Frames,
    UnsupportedTurnError,
    pixel_aspect,
    shown_stream,
    to_rgb,
)
from kinetoscope.data.video.pace import Pace, Paced, pace_of_stream

if TYPE_CHECKING:
    from kinetoscope.data.sources.reader import SeekableFile
    from kinetoscope.data.sources.videos import PreparedVideo

_Decoded = tuple[av.VideoFrame, Fraction]
"""A frame and the aspect of its pixels."""

_RGB_AXES = 4
# Decoding from the start is as fast as seeking when the window is this near.
_SEEK_FROM_FRAME = 48
# Containers that seek by the times of decoding find key frames that are shown after the window's
# first frame. Decoders hold back no more frames than this.
_REORDERED_FRAMES = 16


def write_video(path: Path, frames: Frames, fps: float, *, crf: int = 10) -> None:
    """Write an MP4 (h264) that any browser plays.

    Args:
        path: where the file is written.
        frames: ``T H W C``, RGB, uint8, with even H and W (4:2:0 has half as many colour samples).
        fps: frames per second.
        crf: x264's constant rate factor: 0 is best, 51 worst; 10 is visually lossless.

    Raises:
        DataError: the frames have the wrong shape or type, or an odd size.
    """
    _check_frames(frames)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # equal bytes on every machine
        # x264's macroblock tree gave other bytes in every run.
        stream.options = {"crf": str(crf), "preset": "medium", "x264-params": "mbtree=0"}
        context = stream.codec_context
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.ITU709
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        for image in frames:
            container.mux(stream.encode(_to_yuv(np.ascontiguousarray(image))))
        container.mux(stream.encode(None))


def read_video(path: Path) -> tuple[Frames, float]:
    """Decode a whole file, as a player shows it.

    Returns:
        ``T H W C`` RGB uint8 frames and the average frames per second.

    Raises:
        DataError: the file holds no decodable video frame.
    """
    frames = list(shown_frames(path))
    if not frames:
        raise DataError(f"{path} has no decodable video frame")
    return np.stack(frames), frame_rate(path)


def frame_rate(path: Path) -> float:
    """Return the average frames per second that the file declares (0 when it declares none)."""
    with av.open(str(path)) as container:
        return float(_video_stream(container, path).average_rate or 0)


def shown_frames(path: Path, fps: float | None = None) -> Iterator[Frames]:
    """Decode a file's video, frame by frame, as a player shows it: RGB uint8 ``H W C``.

    Args:
        path: of the file.
        fps: frames per second to give, at even times; by default each decoded frame once.

    Raises:
        DataError: the file can't be opened or decoded.
    """
    try:
        pace, count = Pace(), 0
        if fps is not None:
            with av.open(str(path)) as container:
                pace, count = pace_of_stream(container, _video_stream(container, path), fps)
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            aspect, paced = pixel_aspect(stream), Paced(pace)
            for frame in container.decode(stream):
                for due in paced.push(frame):
                    yield to_rgb(due, aspect)
            for due in paced.finish(count):
                yield to_rgb(due, aspect)
    except (av.FFmpegError, UnsupportedTurnError) as error:
        raise DataError(f"{path} can't be decoded: {error}") from error


def decode_window(video: PreparedVideo, start: int, num_frames: int) -> Iterator[Frames]:
    """Yield frames number ``start`` to ``start + num_frames - 1`` of a video, as they are shown.

    They are RGB, uint8, ``H W C``.

    Frames are counted in display order from 0, at even times, as prepare_data counts them. Windows
    that start late in a video are reached by seeking to the key frame before them, where the times
    of its frames are known.

    Raises:
        ChangedVideoError: what is read is not what was prepared.
        DataError: the video ends before the window does, or can't be decoded.
    """
    numbers = video.decoded(start, num_frames)
    first, shown = numbers[0], Counter(numbers)
    count = 0
    with video.open() as file:
        try:
            window = _window(file, video, first, numbers[-1] - first + 1)
            for number, (frame, aspect) in enumerate(window, first):
                file.check()
                if number in shown:
                    count += shown[number]
                    yield from repeat(to_rgb(frame, aspect), shown[number])
        except (av.FFmpegError, UnsupportedTurnError) as error:
            file.check()
            raise DataError(f"{video.name} can't be decoded: {error}") from error
    if count < num_frames:
        raise DataError(
            f"{video.name} has {start + count} frames that can be decoded; "
            f"frames {start} to {start + num_frames - 1} were asked for",
            hint="the libraries that decode have changed since prepare_data: run it again",
        )


def _window(
    file: SeekableFile, video: PreparedVideo, start: int, num_frames: int
) -> Iterator[_Decoded]:
    """Yield frames one by one: all those of a long clip may not fit into memory."""
    count = 0
    if start >= _SEEK_FROM_FRAME and video.times is not None:
        times = video.times.window(start, num_frames)
        targets = [*times[:1], *video.times.window(start - _REORDERED_FRAMES, 1)]
        with suppress(av.FFmpegError):
            for decoded in _seek_and_decode(file, video, times, targets):
                count += 1
                yield decoded
    # Where seeking does not lead to the same frames, they are counted from the start.
    if count < num_frames:
        yield from _decode_from_start(file, video, start + count, num_frames - count)


def _decode_from_start(
    file: SeekableFile, video: PreparedVideo, start: int, num_frames: int
) -> Iterator[_Decoded]:
    file.seek(0)
    with _opened(file, video.name) as (container, stream):
        aspect = pixel_aspect(stream)
        for frame in islice(container.decode(stream), start, start + num_frames):
            yield frame, aspect


def _seek_and_decode(
    file: SeekableFile, video: PreparedVideo, times: list[int], targets: list[int]
) -> Iterator[_Decoded]:
    """Yield the frames of these times, from the first target on that leads to them."""
    count = 0
    with _opened(file, video.name) as (container, stream):
        aspect = pixel_aspect(stream)
        for target in targets:
            container.seek(target, stream=stream, backward=True)
            for frame in _at(container.decode(stream), times):
                count += 1
                yield frame, aspect
            if count:
                return


def _at(frames: Iterator[av.VideoFrame], times: list[int]) -> Iterator[av.VideoFrame]:
    """Yield the frames of these times, up to the first that is missing."""
    for time in times:
        frame = next((frame for frame in frames if frame.pts is None or frame.pts >= time), None)
        if frame is None or frame.pts != time or frame.is_corrupt:
            return
        yield frame


@contextmanager
def _opened(file: SeekableFile, name: str) -> Iterator[tuple[Any, Any]]:
    """Give a container and its video stream; sound, which may lie far away, is not read."""
    with av.open(file, "r", options=OPEN_OPTIONS) as container:
        stream = _video_stream(container, name)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        yield container, stream


def _video_stream(container: Any, name: str | Path) -> Any:
    stream = shown_stream(container)
    if stream is None:
        raise DataError(f"{name} has no video stream")
    return stream


def _to_yuv(image: Frames) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    return frame.reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=EXACT,
    )


def _check_frames(frames: Frames) -> None:
    shape, dtype = frames.shape, frames.dtype
    if frames.ndim != _RGB_AXES or shape[-1] != 3 or dtype != np.uint8 or not shape[0]:  # noqa: PLR2004
        raise DataError(f"frames must be uint8 of shape T H W 3 with T >= 1, not {dtype} {shape}")
    if shape[1] % 2 or shape[2] % 2:
        raise DataError(
            f"frames of {shape[1]}x{shape[2]} pixels can't be written as yuv420p: "
            "height and width must be even"
        )
