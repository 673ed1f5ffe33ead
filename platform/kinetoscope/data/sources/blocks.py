"""Digests of a file and of each MiB of it, so that a part can be verified by itself."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kinetoscope.core.units import MIB

BLOCK_BYTES = MIB
_DIGEST_BYTES = 32


class ByteSource(Protocol):
    """The content of a file, read at any place."""

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from ``offset`` on; fewer where the file ends before.

        Raises:
            NotFoundError: the file is gone.
            StorageError: it can't be read now.
        """
        ...


@dataclass(frozen=True, slots=True)
class BlockDigests:
    """What a file's content is.

    Attributes:
        size_bytes: of the file.
        digest: of the whole.
        blocks: sha256 of each block of ``BLOCK_BYTES``, one after the other; the last block is as
            long as what is left.
    """

    size_bytes: int
    digest: str
    blocks: bytes

    def __len__(self) -> int:
        return len(self.blocks) // _DIGEST_BYTES

    def block(self, number: int) -> bytes:
        """Return the sha256 of a block."""
        return self.blocks[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]


def digest_blocks(
    source: ByteSource,
    stop_requested: Callable[[], bool] | None = None,
    *,
    most_bytes: int = sys.maxsize,
) -> BlockDigests:
    """Read a file from its start to its end, in pieces of a block.

    Args:
        source: of the file.
        stop_requested: polled between blocks; once it is true an ``InterruptedError`` is raised.
        most_bytes: to read: a file may grow as fast as it is read.
    """
    whole, blocks, size_bytes = hashlib.sha256(), [], 0
    while data := source.read(size_bytes, min(BLOCK_BYTES, most_bytes - size_bytes)):
        if stop_requested is not None and stop_requested():
            raise InterruptedError
        whole.update(data)
        blocks.append(hashlib.sha256(data).digest())
        size_bytes += len(data)
    return BlockDigests(size_bytes, f"sha256:{whole.hexdigest()}", b"".join(blocks))
