"""Blocks of remote videos on the local disk, up to a bound."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from kinetoscope.core.machine_limits import disk_space
from kinetoscope.core.settings import video_cache_bytes, workspace
from kinetoscope.core.units import GIB, MIB

_MAX_BYTES = 16 * GIB
# A process looks at the whole folder again after it wrote this share of the bound.
_LOOK_SHARE = 32
_KEPT_SHARE = 0.9


def open_cache() -> BlockCache:
    """Return the cache of this workspace, as large as the environment says.

    By default 16 GiB, but no more than a quarter of what its disk has free.
    """
    max_bytes = video_cache_bytes()
    if max_bytes is None:
        max_bytes = min(_MAX_BYTES, disk_space(workspace().root).free // 4)
    return BlockCache(workspace().video_cache_path, max_bytes)


class BlockCache:
    """Blocks by their sha256; those that were not used for longest go first.

    Shared by all processes that name the same folder. What is damaged or deleted is only missed.

    Args:
        folder: of the cache; made when it is first written to.
        max_bytes: how much to keep; each process may exceed it by a 32nd for a while. 0: nothing.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._unseen_bytes = max_bytes  # what others left is looked at with the first block

    def get(self, sha256: bytes) -> bytes | None:
        """Return a block, or None where it is not kept; one that was damaged is not."""
        path = self._path(sha256)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        good = hashlib.sha256(data).digest() == sha256
        with suppress(OSError):  # of another user, or on a read-only disk
            os.utime(path) if good else path.unlink()
        return data if good else None

    def put(self, data: bytes | memoryview) -> None:
        """Keep a block; where that fails, e.g. on a full disk, it is not kept."""
        if len(data) > self._max_bytes:
            return
        path = self._path(hashlib.sha256(data).digest())
        partial = path.with_name(f".{uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        self._unseen_bytes += len(data)
        if self._unseen_bytes > max(self._max_bytes // _LOOK_SHARE, MIB):
            self._sweep()

    def _sweep(self) -> None:
        """Delete what was not used for longest, until the bound is kept with some room."""
        found = []
        for path in self._folder.glob("*/*"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        used_bytes = sum(size for _, size, _ in found)
        if used_bytes > self._max_bytes:
            for _, size, path in sorted(found):
                if used_bytes <= _KEPT_SHARE * self._max_bytes:
                    break
                with suppress(OSError):  # of another user, or deleted meanwhile
                    path.unlink()
                    used_bytes -= size
        self._unseen_bytes = 0

    def _path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._folder / name[:2] / name
