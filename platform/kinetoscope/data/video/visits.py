"""What is called with the frames of a pass over a video, and one that finds unwritten parts.

Where data are damaged, some decoders leave a part of a frame as it lay in memory, with pixels of
other frames or of another video. Nothing tells of it, but a second pass whose frames lie elsewhere
in memory shows something else there.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from itertools import zip_longest
from typing import TYPE_CHECKING

from av.video.reformatter import VideoReformatter

from kinetoscope.core.units import MIB

if TYPE_CHECKING:
    import av

Visit = Callable[["av.VideoFrame", Fraction], None]
"""Takes a decoded frame and the aspect of its pixels."""

# Decoders take the memory of frames that were let go: these make them take other memory.
_MAX_HELD, _MAX_HELD_BYTES = 32, 64 * MIB


class FrameDigests:
    """Digests of the pixels of all frames that a pass visits.

    Args:
        visit: what sees the frames, too.
        hold: whether to keep the latest frames, for another use of memory.
    """

    def __init__(self, visit: Visit | None = None, *, hold: bool = False) -> None:
        self._visit = visit
        self._held: deque[av.VideoFrame] | None = deque() if hold else None
        self._reformatter = VideoReformatter()
        self._digests: list[int] = []

    def __call__(self, frame: av.VideoFrame, aspect: Fraction) -> None:
        """Visit a frame."""
        # Not the frame's own memory, which has padding.
        pixels = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        self._digests.append(zlib.crc32(pixels.tobytes()))
        if self._held is not None:
            self._held.append(frame)
            frame_bytes = sum(plane.buffer_size for plane in frame.planes)
            while len(self._held) > min(_MAX_HELD, max(2, _MAX_HELD_BYTES // frame_bytes)):
                self._held.popleft()
        if self._visit is not None:
            self._visit(frame, aspect)

    def differing(self, other: FrameDigests) -> int:
        """Return how many frames are not the same in both passes."""
        both = zip_longest(self._digests, other._digests)
        return sum(one != two for one, two in both)
