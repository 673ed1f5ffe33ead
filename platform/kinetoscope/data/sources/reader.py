"""A file that is what it was: each block is verified when it is read."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from typing import Protocol

from kinetoscope.core.errors import DataError, NotFoundError
from kinetoscope.data.sources.blocks import BLOCK_BYTES, BlockDigests, ByteSource

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
OPEN_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
"""For libav, of videos of unknown origin: none may make it open other files or addresses."""

_MAX_CACHED = 3
"""Blocks kept in memory by one open file."""
_WAY_OUT = (
    "put the original back and go on with kino resume, or start a new run on what is there now"
)


class SeekableFile(Protocol):
    """What libav asks of a file."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move the position and return it."""
        ...

    def tell(self) -> int:
        """Return the position."""
        ...


class ChangedVideoError(DataError):
    """A video is not what it was when it was prepared."""


class VerifiedFile:
    """A binary file for reading, as far as libav asks for one.

    An error must not pass through libav, which may go on and forget it. So a read that fails finds
    the end of the file, and so do all that follow; `check`, and leaving the ``with`` block, tell.

    Memory: ``_MAX_CACHED`` blocks, and while some arrive, these a second time.

    Args:
        source: of its bytes.
        digests: what they must be.
        name: what people call it.
        read_ahead: most blocks that one request asks for, up to ``_MAX_CACHED``. One by one
            they come where the reader jumps about; where it goes on, each request asks for twice as
            many.
    """

    def __init__(
        self, source: ByteSource, digests: BlockDigests, name: str, *, read_ahead: int = 1
    ) -> None:
        self.name = name
        self._source = source
        self._digests = digests
        self._read_ahead = read_ahead
        self._cached: OrderedDict[int, memoryview] = OrderedDict()
        self._position = 0
        self._next_block = -1
        self._count = 1
        self._failure: Exception | None = None

    def __enter__(self) -> VerifiedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._cached.clear()
        self.check()

    def check(self) -> None:
        """Raise what went wrong while it was read.

        Raises:
            ChangedVideoError: its content is another one than it was, or gone.
            StorageError: it can't be read now.
        """
        if self._failure is not None:
            raise self._failure

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read at any place."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it."""
        base = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position,
            os.SEEK_END: self._digests.size_bytes,
        }[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, or all where that is negative; fewer at the end."""
        try:
            return b"" if self._failure is not None else self._read(size)
        except Exception as error:  # kept for those who ask, beyond libav
            self._failure = error
            return b""

    def _read(self, size: int) -> bytes:
        left = max(self._digests.size_bytes - self._position, 0)
        size = left if size < 0 else min(size, left)
        pieces = []
        while size:
            number, start = divmod(self._position, BLOCK_BYTES)
            piece = bytes(self._block(number)[start : start + size])
            pieces.append(piece)
            self._position += len(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _block(self, number: int) -> memoryview:
        if number not in self._cached:
            self._fetch(number)
        self._cached.move_to_end(number)
        return self._cached[number]

    def _fetch(self, number: int) -> None:
        left = len(self._digests) - number
        self._count = min(2 * self._count, self._read_ahead) if number == self._next_block else 1
        # The end of a file is often its index, which is read whole.
        count = left if left <= self._read_ahead else self._count
        while len(self._cached) > _MAX_CACHED - count:  # before more comes
            self._cached.popitem(last=False)
        self._cached.update(enumerate(self._verified(number, count), start=number))
        self._next_block = number + count

    def _verified(self, number: int, count: int) -> list[memoryview]:
        """Return blocks that are what they were; asks again once where they are not."""
        for _ in range(2):
            try:
                data = memoryview(self._source.read(number * BLOCK_BYTES, count * BLOCK_BYTES))
            except NotFoundError:
                raise ChangedVideoError(
                    f"the video {self.name} is gone since it was prepared", hint=_WAY_OUT
                ) from None
            blocks = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
            found = [hashlib.sha256(block).digest() for block in blocks]
            if found == [self._digests.block(number + i) for i in range(count)]:
                return blocks
        raise ChangedVideoError(
            f"the video {self.name} is not what it was when it was prepared: its content has "
            f"changed within {count} MiB from MiB {number} on",
            hint=_WAY_OUT,
        )
