"""The videos and sidecar files of a directory, and the digest of their content."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kinetoscope.core.errors import DataError
from kinetoscope.core.file_digests import FileDigests
from kinetoscope.core.hashing import digest_json
from kinetoscope.core.uris import is_text
from kinetoscope.storage.own_folders import own_folders

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
SIDECAR_SUFFIXES = frozenset({".csv", ".jsonl", ".txt"})

_MAKE_SOME = "kino data synth --out DIR makes a small set"


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
    """What a directory holds, each list sorted by name.

    Attributes:
        videos: by suffix.
        sidecars: files that may hold captions.
        num_left_out: folders that Kinetoscope made, e.g. of a workspace inside; not looked into.
    """

    videos: tuple[SourceFile, ...]
    sidecars: tuple[SourceFile, ...]
    num_left_out: int = 0


def list_videos(directory: Path) -> SourceListing:
    """List the sources of a directory that must have a video that may be opened.

    Raises:
        DataError: the directory does not exist, or has none.
    """
    listing = list_sources(directory)
    suffixes = " ".join(sorted(VIDEO_SUFFIXES))
    if not listing.videos:
        left_out = f"; {told_left_out(listing.num_left_out)}" if listing.num_left_out else ""
        raise DataError(
            f"no video in {directory}: no file, there or in its folders, ends in {suffixes}"
            f"{left_out}",
            hint=_MAKE_SOME,
        )
    if all(video.refused for video in listing.videos):
        first = listing.videos[0]
        raise DataError(
            f"none of {len(listing.videos)} videos in {directory} may be opened, "
            f"e.g. {first.name}: {first.refused}",
            hint=_MAKE_SOME,
        )
    return listing


def told_left_out(num_folders: int) -> str:
    """Return what is told of folders that were not looked into."""
    return f"left out: {num_folders} folder(s) that Kinetoscope itself made there"


def list_sources(directory: Path) -> SourceListing:
    """List videos and sidecar files, recursively; hidden files and folders are left out.

    So are the folders that Kinetoscope made itself: else a workspace in the directory would turn
    each run's samples into the next one's videos.

    Links to folders are not followed. A link that leaves the directory, a pipe, a device and a name
    that is not UTF-8 are listed as refused.

    Raises:
        DataError: the directory does not exist, or its path is no text.
    """
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory of videos", hint=_MAKE_SOME)
    root = directory.resolve()
    if not is_text(root):
        raise DataError(
            f"the directory of videos {str(root)!r} has no UTF-8 path",
            hint="rename it, or give a copy of it",
        )
    files: dict[bool, list[SourceFile]] = {True: [], False: []}
    num_left_out = 0
    for folder, folders, names in os.walk(root):
        own = own_folders(Path(folder), folders)
        num_left_out += len(own)
        folders[:] = sorted({name for name in folders if not name.startswith(".")} - own)
        for name in names:
            path = Path(folder, name)
            suffix = path.suffix.lower()
            if not name.startswith(".") and suffix in VIDEO_SUFFIXES | SIDECAR_SUFFIXES:
                files[suffix in VIDEO_SUFFIXES].append(_source(path, root))
    videos, sidecars = (
        tuple(sorted(files[key], key=lambda file: file.name)) for key in (True, False)
    )
    return SourceListing(videos, sidecars, num_left_out)


def videos_digest(directory: Path, cache: Path) -> str:
    """Return the digest of all that `prepare_data` reads in the directory.

    Args:
        directory: where the videos are.
        cache: JSON file that remembers digests by path, size and modification time.
    """
    listing = list_sources(directory)
    known = FileDigests(cache)
    files = (*listing.videos, *listing.sidecars)
    digests = {file.name: known.digest(file.path) for file in files if file.refused is None}
    known.save()
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
