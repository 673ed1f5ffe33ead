"""The files of a place of videos, and the list that a run keeps of them.

The list is JSON lines, one object a file, sorted by name: ``name``, and either ``size_bytes`` and
``version`` or ``refused``. Its digest is what the videos are to a run: places with the same content
under the same names have the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kinetoscope.core.errors import CorruptError, DataError
from kinetoscope.core.hashing import canonical_json, digest_bytes

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
SIDECAR_SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".caption"})
SUFFIXES = VIDEO_SUFFIXES | SIDECAR_SUFFIXES

_DIGEST = "sha256:"
_ETAG = "etag:"
WHAT_TO_GIVE = (
    "give a directory, s3://BUCKET/PREFIX, or a manifest that kino data upload wrote; "
    "kino data synth --out DIR makes a small set"
)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A video, or a file that may hold captions.

    Attributes:
        name: POSIX path below the place.
        size_bytes: of its content.
        version: what tells its content from any other: a digest, or ``etag:`` and what the object
            store calls it; empty where its content has not been read yet.
        refused: why it may not be opened; None when it may.
    """

    name: str
    size_bytes: int = 0
    version: str = ""
    refused: str | None = None

    @property
    def is_video(self) -> bool:
        """Whether it is named as a video is."""
        return suffix_of(self.name) in VIDEO_SUFFIXES

    @property
    def digest(self) -> str:
        """Digest of its content; empty where only a reader can tell."""
        return self.version if self.version.startswith(_DIGEST) else ""

    @property
    def etag(self) -> str:
        """The object store's name of its content; empty where there is none."""
        return self.version.removeprefix(_ETAG) if self.version.startswith(_ETAG) else ""


@dataclass(frozen=True, slots=True)
class SourceListing:
    """What a place holds.

    Attributes:
        files: sorted by name.
        num_left_out: folders that Kinetoscope made, e.g. of a workspace inside; not looked into.
    """

    files: tuple[SourceFile, ...]
    num_left_out: int = 0

    @property
    def videos(self) -> tuple[SourceFile, ...]:
        """The videos, sorted by name."""
        return tuple(file for file in self.files if file.is_video)

    @property
    def openable_videos(self) -> tuple[SourceFile, ...]:
        """The videos that may be opened, sorted by name."""
        return tuple(video for video in self.videos if not video.refused)

    @property
    def sidecars(self) -> tuple[SourceFile, ...]:
        """The files that may hold captions, sorted by name."""
        return tuple(file for file in self.files if not file.is_video)

    def to_bytes(self) -> bytes:
        """Return the list as a run keeps it."""
        return b"".join(f"{canonical_json(_to_json(file))}\n".encode() for file in self.files)

    @property
    def digest(self) -> str:
        """Digest of the list."""
        return digest_bytes(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes, digest: str, name: str) -> SourceListing:
        """Read a list back.

        Args:
            data: what `to_bytes` gave.
            digest: of the data.
            name: of the object that holds it, for errors.

        Raises:
            CorruptError: it has another digest.
        """
        if digest_bytes(data) != digest:
            raise CorruptError(f"{name} does not match its digest", hint="start a new run")
        return cls(tuple(SourceFile(**json.loads(line)) for line in data.splitlines()))


def require_videos(listing: SourceListing, place: str) -> SourceListing:
    """Return the listing if it has a video that may be opened.

    Args:
        listing: of the place.
        place: what people call it.

    Raises:
        DataError: it has none.
    """
    videos = listing.videos
    if not videos:
        left_out = f"; {told_left_out(listing.num_left_out)}" if listing.num_left_out else ""
        raise DataError(
            f"no video in {place}: no file, there or in its folders, ends in "
            f"{' '.join(sorted(VIDEO_SUFFIXES))}{left_out}",
            hint=WHAT_TO_GIVE,
        )
    if not listing.openable_videos:
        raise DataError(
            f"none of {len(videos)} videos in {place} may be opened, "
            f"e.g. {videos[0].name}: {videos[0].refused}",
            hint=WHAT_TO_GIVE,
        )
    return listing


def told_left_out(num_folders: int) -> str:
    """Return what is told of folders that were not looked into."""
    return f"left out: {num_folders} folder(s) that Kinetoscope itself made there"


def is_source(name: str) -> bool:
    """Tell whether a file's name, without its folder, is that of a video or of captions."""
    return not name.startswith(".") and suffix_of(name) in SUFFIXES


def suffix_of(name: str) -> str:
    """Return a name's suffix in lower case."""
    base = name.rstrip("/").rpartition("/")[2]
    stem, dot, suffix = base.rpartition(".")
    return f"{dot}{suffix.lower()}" if stem and suffix else ""


def in_order(files: Iterator[SourceFile]) -> tuple[SourceFile, ...]:
    """Return files as a listing has them: sorted by name."""
    return tuple(sorted(files, key=lambda file: file.name))


def refused_name(name: str) -> SourceFile:
    """Return a file whose name came from elsewhere, and that no place can have."""
    shown = name.encode("utf-8", "backslashreplace").decode()
    return SourceFile(shown, refused="its name is no plain relative path")


def changed_since(file: SourceFile, place: str, what: str) -> DataError:
    """Return the error for a file that is not what it was when it was listed.

    Args:
        file: as it was listed.
        place: what people call the place.
        what: became of it, e.g. ``was changed``.
    """
    return DataError(
        f"{file.name} in {place} {what} since the run was planned",
        hint="start the run again once nothing writes there any more",
    )


def version_of(etag: str) -> str:
    """Return the version that an object store's ETag makes."""
    return f"{_ETAG}{etag}"


def _to_json(file: SourceFile) -> dict[str, Any]:
    if file.refused is not None:
        return {"name": file.name, "refused": file.refused}
    return {"name": file.name, "size_bytes": file.size_bytes, "version": file.version}
