"""A full disk: told from whatever a library makes of it, with where it is and what to do."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kinetoscope.core.errors import DiskFullError
from kinetoscope.core.machine_limits import Space, disk_space, existing
from kinetoscope.core.settings import workspace
from kinetoscope.core.units import MIB, format_bytes
from kinetoscope.core.uris import file_path

MAKE_ROOM = "free some space, kino rm old runs, or set KINO_WORKSPACE to another disk"

_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
# What libraries say that keep no errno: safetensors, sqlite.
_SAYINGS = ("no space left on device", "database or disk is full", "disk quota exceeded")
# With less there is no room even for a record.
_NOTHING_BYTES = MIB


def disk_full_error(error: BaseException) -> DiskFullError | None:
    """Return what to tell where an error, or one that led to it, is a full disk; else None."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _ERRNOS:
            # Of a copy, the second name is the file that was written.
            name = cause.filename2 or cause.filename
            return _full([Path(name)] if isinstance(name, str) and name else _places())
        if any(saying in str(cause).lower() for saying in _SAYINGS):
            return _full(_places())
    return None


def disk_full_or_raise(error: OSError) -> DiskFullError:
    """Return what to tell of a full disk; raise an error that is of something else."""
    full = disk_full_error(error)
    if full is None:
        raise error
    return full


def full_disk() -> DiskFullError | None:
    """Return what to tell where a disk that runs write to is full now; else None."""
    places = _places()
    emptiest = min(disk_space(place).free for place in places)
    return _full(places) if emptiest < _NOTHING_BYTES else None


def a_disk_was_full() -> DiskFullError:
    """Return what to tell where a process could say no more than that by its exit code."""
    return _full(_places())


def _full(places: list[Path]) -> DiskFullError:
    folders = {_folder(place): disk_space(place) for place in places}
    folder = min(folders, key=lambda folder: folders[folder].free)
    return DiskFullError(f"the disk of {folder} is full: {_told(folders[folder])}", hint=MAKE_ROOM)


def _told(space: Space) -> str:
    free, total = format_bytes(space.free), format_bytes(space.total)
    return f"{free} of {total} are free, less than was to be written"


def _folder(place: Path) -> Path:
    there = existing(place)
    return there if there.is_dir() else there.parent


def _places() -> list[Path]:
    """Return the folders that runs write to."""
    own = workspace()
    store = file_path(own.store_uri)
    stored = [store] if store is not None else []
    return [own.root, own.scratch_path, *stored, Path(tempfile.gettempdir())]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
