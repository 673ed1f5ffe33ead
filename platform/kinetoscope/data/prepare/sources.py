"""The videos and sidecar files of a directory, and the digest of their content."""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetoscope.core.errors import DataError
from kinetoscope.core.hashing import digest_file, digest_json

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
SIDECAR_SUFFIXES = frozenset({".csv", ".jsonl", ".txt"})

# A file that changed this recently could change again within the clock's resolution, so its digest
# is not remembered (git's "racily clean" entries).
_SETTLED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the directory.

    Attributes:
        name: POSIX path relative to the directory.
        path: absolute path.
        refused: why it may not be opened; None when it may.
    """

    name: str
    path: Path
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class SourceListing:
    """What a directory holds, each list sorted by name."""

    videos: tuple[SourceFile, ...]
    sidecars: tuple[SourceFile, ...]


def list_sources(directory: Path) -> SourceListing:
    """List videos and sidecar files, recursively; hidden files and folders are left out.

    Links to folders are not followed. A link that leaves the directory, a pipe, a device and a name
    that is not UTF-8 are listed as refused.

    Raises:
        DataError: the directory does not exist.
    """
    if not directory.is_dir():
        raise DataError(f"no directory of videos at {directory}")
    root = directory.resolve()
    files: dict[bool, list[SourceFile]] = {True: [], False: []}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(folder, name)
            suffix = path.suffix.lower()
            if not name.startswith(".") and suffix in VIDEO_SUFFIXES | SIDECAR_SUFFIXES:
                files[suffix in VIDEO_SUFFIXES].append(_source(path, root))
    videos, sidecars = (
        tuple(sorted(files[key], key=lambda file: file.name)) for key in (True, False)
    )
    return SourceListing(videos, sidecars)


def videos_digest(directory: Path, cache: Path) -> str:
    """Return the digest of all that `prepare_data` reads in the directory.

    Args:
        directory: where the videos are.
        cache: JSON file that remembers digests by path, size and modification time.
    """
    listing = list_sources(directory)
    remembered = _read_cache(cache)
    current: dict[str, list[Any]] = {}
    digests: dict[str, str] = {}
    for file in (*listing.videos, *listing.sidecars):
        if file.refused is None:
            entry = _entry(file.path, remembered)
            current[str(file.path)] = entry
            digests[file.name] = entry[2]
    merged = {**remembered, **current}
    if merged != remembered:
        _write_cache(cache, merged)
    return digest_listing(listing, digests)


def digest_listing(listing: SourceListing, digests: dict[str, str]) -> str:
    """Combine the digests of the files, by name, into that of the directory."""
    files = (*listing.videos, *listing.sidecars)
    return digest_json([[file.name, file.refused or digests[file.name]] for file in files])


def _source(path: Path, root: Path) -> SourceFile:
    name = path.relative_to(root).as_posix()
    return SourceFile(name.encode("utf-8", "backslashreplace").decode(), path, _refusal(path, root))


def _refusal(path: Path, root: Path) -> str | None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        return f"a broken link ({type(error).__name__})"
    if not target.is_relative_to(root):
        return "a link that leaves the directory"
    if not stat.S_ISREG(target.stat().st_mode):
        return "not a regular file"
    return None if os.access(target, os.R_OK) else "not readable for this user"


def _entry(path: Path, remembered: dict[str, list[Any]]) -> list[Any]:
    """Return ``[size, modification time in ns, digest]``, hashing only what changed."""
    status = path.stat()
    entry = remembered.get(str(path))
    if entry is not None and entry[:2] == [status.st_size, status.st_mtime_ns]:
        return entry
    # The time is read before the content: a write in between makes the next call hash again.
    settled = time.time() - status.st_mtime > _SETTLED_SECONDS
    return [status.st_size, status.st_mtime_ns if settled else 0, digest_file(path)]


def _read_cache(cache: Path) -> dict[str, list[Any]]:
    try:
        value = json.loads(cache.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_cache(cache: Path, entries: dict[str, list[Any]]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(f"{cache.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(entries), encoding="utf-8")
    partial.replace(cache)
