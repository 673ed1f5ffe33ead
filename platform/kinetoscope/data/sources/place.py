"""One way to open a place of videos, whatever it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Protocol

from kinetoscope.core.errors import ConfigError, DataError
from kinetoscope.core.file_digests import FileDigests
from kinetoscope.core.uris import file_path
from kinetoscope.data.sources.blocks import ByteSource
from kinetoscope.data.sources.bucket import PrefixPlace
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.data.sources.listing import WHAT_TO_GIVE, SourceFile, SourceListing
from kinetoscope.data.sources.manifest import MANIFEST_SUFFIX, ManifestPlace, split_manifest
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

_S3 = "s3://"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class VideoPlace(Protocol):
    """Where videos lie: a directory, a prefix of a bucket, or a set that was uploaded."""

    is_local: ClassVar[bool]
    """Whether the files are this machine's own: they are read in place, and not cached."""

    @property
    def uri(self) -> str:
        """What people call it."""
        ...

    def list(self) -> SourceListing:
        """Return what is there; reads no video."""
        ...

    def bytes_of(self, name: str, digest: str) -> ByteSource:
        """Return the content of a file by its name, or by its digest where that names it."""
        ...

    def fetch(self, file: SourceFile, folder: Path) -> Path:
        """Return a local file with the content, in ``folder`` where it has to be brought there.

        Raises:
            DataError: the file is another one than when it was listed, or gone.
        """
        ...

    def mismatch(self, file: SourceFile) -> DataError:
        """Return the error for content of another digest than was listed."""
        ...


def place_name(given: str) -> str:
    """Return what names a place for good: an absolute path, or an ``s3://`` URI.

    Args:
        given: path or URI, as a user writes it.

    Raises:
        ConfigError: it is another URI, or empty: that is hardly meant to be the current folder.
    """
    if not given:
        raise ConfigError("the place of videos has an empty name", hint=WHAT_TO_GIVE)
    if given.startswith(_S3):
        return _S3 + given.removeprefix(_S3).rstrip("/")
    scheme = _SCHEME.match(given)
    path = file_path(given) if scheme and scheme[0] == "file://" else Path(given)
    if path is None or (scheme and scheme[0] != "file://"):
        # Not repeated as a whole: what stands before an @ may be a password.
        raise ConfigError(f"no videos can be read over {scheme and scheme[0]}", hint=WHAT_TO_GIVE)
    try:
        return str(path.resolve())
    except (OSError, RuntimeError) as error:  # a loop of links, a current folder that is gone
        raise ConfigError(f"{given!r} can't be found: {error}", hint=WHAT_TO_GIVE) from None


def open_place(name: str) -> VideoPlace:
    """Open a place by its name, as `place_name` gives it; sends nothing.

    Raises:
        ConfigError: a URI of S3 or its settings are wrong.
        DataError: it is named as a manifest is, where none can lie.
    """
    if _names_a_manifest(name):
        root, key = split_manifest(name)
        return ManifestPlace(open_root(root), key)
    if name.startswith(_S3):
        return PrefixPlace(open_store(name))
    return DirectoryPlace(Path(name))


def open_root(name: str) -> ObjectStore:
    """Return the store at an absolute path or an ``s3://`` URI, as `place_name` gives them."""
    return open_store(name if name.startswith(_S3) else Path(name).as_uri())


def _names_a_manifest(name: str) -> bool:
    if not name.endswith(MANIFEST_SUFFIX):
        return False
    if name.startswith(_S3):
        return "/" in name.removeprefix(_S3)  # a bucket's name may end so
    # Of what is no regular file, a directory says what it is; a pipe would be read for ever.
    return Path(name).is_file() or not Path(name).exists()


def with_versions(
    place: VideoPlace,
    listing: SourceListing,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> SourceListing:
    """Return a listing in which every file that may be opened has a version.

    Args:
        place: that was listed.
        listing: of the place.
        cache: JSON file that remembers digests (``core.file_digests``).
        progress: called with the number of files that are done and of all.

    Raises:
        DataError: a file can't be read any more.
    """
    if not isinstance(place, DirectoryPlace):
        return listing
    known, files = FileDigests(cache), []
    for number, file in enumerate(listing.files, start=1):
        files.append(file if file.refused else _with_digest(place, file, known))
        if progress is not None:
            progress(number, len(listing.files))
    known.save()
    return replace(listing, files=tuple(files))


def _with_digest(place: DirectoryPlace, file: SourceFile, known: FileDigests) -> SourceFile:
    path = place.path / file.name
    try:
        return replace(file, version=known.digest(path))
    except OSError as error:
        raise DataError(
            f"{path} can't be read any more ({error.strerror})",
            hint="start the run again once nothing writes there any more",
        ) from None
