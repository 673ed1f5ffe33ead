"""Decodes a video of unknown origin under limits, and says whether it can be used.

The file is opened as a file object with a whitelist of containers, so that nothing in it can make
libav open another file or a network address (playlists, external tracks).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import av

from kinetoscope.data.prepare.decoding import Decoding, DecodingError, VideoInfo, why
from kinetoscope.data.prepare.quarantine import QuarantinedError
from kinetoscope.data.prepare.structure import is_cut_off, names_files, other_kind
from kinetoscope.data.sources.reader import OPEN_OPTIONS
from kinetoscope.data.video.visits import FrameDigests

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinetoscope.data.config import LimitsConfig
    from kinetoscope.data.sources.reader import SeekableFile
    from kinetoscope.data.video.pace import Pace
    from kinetoscope.data.video.visits import Visit


def probe(
    file: SeekableFile,
    limits: LimitsConfig,
    visit: Callable[[], Visit] | None = None,
    *,
    fps: float | None = None,
) -> VideoInfo:
    """Decode the first video stream to its end.

    Args:
        file: the video, open for reading.
        limits: anything beyond is refused, as far as possible before it is decoded.
        visit: called for what is then called with every frame at even times, in display order. Only
            what it returned last has seen the frames: which times are even may turn out at the
            video's end alone, and it is decoded anew.
        fps: frames per second to visit; by default the video's own.

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
    try:
        info = _decode(file, limits, visit, fps)
    except DecodingError as error:
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


@contextmanager
def _open(file: SeekableFile) -> Iterator[Any]:
    file.seek(0)
    try:
        container = av.open(file, options=OPEN_OPTIONS)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise DecodingError(why(error)) from error
    with container:
        yield container


def _decode(
    file: SeekableFile,
    limits: LimitsConfig,
    visit: Callable[[], Visit] | None,
    fps: float | None,
) -> VideoInfo:
    deadline = time.monotonic() + limits.timeout_seconds
    pace: Pace | None = None
    while True:
        with _open(file) as container:
            decoding = Decoding(container, limits, fps, deadline)
            tried = decoding.likely_pace() if pace is None else pace
            seen = visit() if visit is not None else None
            digests = FrameDigests(seen) if decoding.hides_damage else None
            pace = decoding.run(digests or seen, tried)
            if pace != tried:
                continue
            info = decoding.info(pace)
        if digests is not None:
            again = FrameDigests(hold=True)
            with _open(file) as container:
                Decoding(container, limits, fps, deadline).run(again, pace)
            if differing := digests.differing(again):
                raise DecodingError(f"{differing} of {info.num_frames} frames are damaged")
        return info
