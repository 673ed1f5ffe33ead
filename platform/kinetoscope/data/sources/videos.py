"""The prepared videos, opened for reading: verified, and cached where they are far away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kinetoscope.core.errors import CorruptError
from kinetoscope.data.sources.blocks import BLOCK_BYTES, BlockDigests, ByteSource
from kinetoscope.data.sources.cache import BlockCache
from kinetoscope.data.sources.even_frames import EvenFrames
from kinetoscope.data.sources.frame_times import FrameTimes
from kinetoscope.data.sources.index import VideoIndex
from kinetoscope.data.sources.place import VideoPlace
from kinetoscope.data.sources.reader import VerifiedFile

_READ_AHEAD = 3
"""Blocks of a remote video that one request asks for; more would be thrown away at seeks."""


@dataclass(frozen=True, slots=True)
class PreparedVideo:
    """A video to read frames of.

    Attributes:
        name: what people call it.
        digests: of its content.
        times: of its decoded frames, where they are known.
        even: how they are taken at even times; None where each is one.
        source: of its bytes.
        read_ahead: most blocks for one request.
    """

    name: str
    digests: BlockDigests
    times: FrameTimes | None
    even: EvenFrames | None
    source: ByteSource
    read_ahead: int = 1

    def decoded(self, start: int, num_frames: int) -> Sequence[int]:
        """Return the numbers of the decoded frames that a window shows; never falling."""
        if self.even is None:
            return range(start, start + num_frames)
        return self.even.decoded(self.times, start, num_frames)

    def open(self) -> VerifiedFile:
        """Return the video as a binary file."""
        return VerifiedFile(self.source, self.digests, self.name, read_ahead=self.read_ahead)


@dataclass(frozen=True, slots=True)
class Videos:
    """The videos of a clip table.

    Args:
        place: where they lie.
        index: what they were when they were prepared.
        cache: of blocks that come from far away.
    """

    place: VideoPlace
    index: VideoIndex
    cache: BlockCache

    def video(self, name: str, digest: str) -> PreparedVideo:
        """Return a video by its name and digest; raises ``CorruptError`` where it is no such."""
        try:
            indexed = self.index[digest]
        except KeyError:
            raise CorruptError(f"the index of videos lacks {name} ({digest})") from None
        source, shown = self.place.bytes_of(name, digest), f"{name} in {self.place.uri}"
        if self.place.is_local:
            return PreparedVideo(shown, indexed.blocks, indexed.times, indexed.even, source)
        far = _CachedBytes(source, indexed.blocks, self.cache)
        return PreparedVideo(shown, indexed.blocks, indexed.times, indexed.even, far, _READ_AHEAD)


@dataclass(frozen=True, slots=True)
class _CachedBytes:
    """Whole blocks of a file, from the cache or from where it lies."""

    source: ByteSource
    digests: BlockDigests
    cache: BlockCache

    def read(self, offset: int, length: int) -> bytes:
        """Return blocks; see ``ByteSource``. Only those that the cache lacks are asked for."""
        first, count = offset // BLOCK_BYTES, -(-length // BLOCK_BYTES)
        numbers = range(first, min(first + count, len(self.digests)))
        kept = {number: self.cache.get(self.digests.block(number)) for number in numbers}
        missing = [number for number in numbers if kept[number] is None]
        if not missing:
            return b"".join(block for block in kept.values() if block is not None)
        before = b"".join(kept[number] or b"" for number in range(first, missing[0]))
        after = b"".join(kept[number] or b"" for number in range(missing[-1] + 1, numbers.stop))
        fetched = self._fetch(missing[0], missing[-1] + 1)
        return before + fetched + after if before or after else fetched

    def _fetch(self, start: int, end: int) -> bytes:
        data = self.source.read(start * BLOCK_BYTES, (end - start) * BLOCK_BYTES)
        view = memoryview(data)
        for at in range(0, len(data), BLOCK_BYTES):
            self.cache.put(view[at : at + BLOCK_BYTES])
        return data
