"""Bring a directory of videos into an object store, each content once, and write its manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event

from kinetoscope.core.errors import CorruptError, DataError
from kinetoscope.core.units import MIB
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.data.sources.listing import SourceFile, SourceListing
from kinetoscope.data.sources.manifest import (
    MANIFEST_SUFFIX,
    MANIFESTS,
    OBJECTS,
    Manifest,
    ManifestFile,
    object_key,
)
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.parallel import in_order
from kinetoscope.storage.records import read_record
from kinetoscope.storage.store import ObjectStore, ReplacedError

_NUM_THREADS = 8
_LARGE_BYTES = 8 * MIB
"""From here on a file is sent in parts by threads of its own, one file after the other."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an upload did.

    Attributes:
        manifest: URI of the manifest.
        digest: of the set, as of a directory with the same content.
        num_files: in the set.
        num_sent: contents that were not in the store.
        sent_bytes: of those.
        refused: names of files that may not be opened, and why; they are not in the set.
        replaced: number of files of the other set that had this name until now; None: there was
            none.
    """

    manifest: str
    digest: str
    num_files: int
    num_sent: int
    sent_bytes: int
    refused: dict[str, str]
    replaced: int | None = None


def upload_videos(
    place: DirectoryPlace,
    listing: SourceListing,
    store: ObjectStore,
    name: str,
    progress: Callable[[int, int], None] | None = None,
) -> Uploaded:
    """Upload what the store lacks, then write ``manifests/<name>.json``.

    An object is whole or absent, and is never replaced; so an upload that was broken off goes on
    where it was when it is begun again. The manifest comes last: it names only what is there.

    Args:
        place: of the files.
        listing: of the place, with the digests of all contents.
        store: rooted where the set is kept.
        name: of the set.
        progress: called with the number of bytes that are there and of all.

    Raises:
        DataError: a file was changed since its digest was found out.
        StorageError: the store did not take an object.
    """
    files = [file for file in listing.files if not file.refused]
    contents = {file.digest: file for file in files}
    there = {stat.key: stat.size_bytes for stat in store.list(OBJECTS)}
    missing = [
        file for file in contents.values() if there.get(object_key(file.digest)) != file.size_bytes
    ]
    total = sum(file.size_bytes for file in contents.values())
    sent_bytes = sum(file.size_bytes for file in missing)
    _send(place, missing, store, _Count(progress, total - sent_bytes, total))
    key = f"{MANIFESTS}/{name}{MANIFEST_SUFFIX}"
    entries = {file.name: _entry(file) for file in files}
    before = _files_before(store, key)
    store.put_bytes(key, Manifest(files=entries).to_bytes())
    return Uploaded(
        manifest=join_uri(store.uri, key),
        digest=SourceListing(tuple(files)).digest,
        num_files=len(files),
        num_sent=len(missing),
        sent_bytes=sent_bytes,
        refused={file.name: file.refused for file in listing.files if file.refused},
        replaced=len(before) if before not in ({}, entries) else None,
    )


def _files_before(store: ObjectStore, key: str) -> dict[str, ManifestFile]:
    try:
        before = read_record(store, key, Manifest)
    except CorruptError:
        before = None
    return before.files if before is not None else {}


class _Count:
    """Adds up bytes from several threads."""

    def __init__(self, tell: Callable[[int, int], None] | None, done: int, total: int) -> None:
        self._tell, self._done, self._total = tell, done, total
        self._lock = threading.Lock()
        self.add(0)

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            if self._tell is not None:
                self._tell(self._done, self._total)


def _send(
    place: DirectoryPlace, files: Sequence[SourceFile], store: ObjectStore, count: _Count
) -> None:
    """Send small files many at a time, then large ones, whose parts go many at a time."""
    small = [file for file in files if file.size_bytes < _LARGE_BYTES]
    tasks = [partial(_send_one, place, file, store, count) for file in small]
    for _ in in_order(tasks, num_threads=_NUM_THREADS) if tasks else ():
        pass
    for file in files:
        if file.size_bytes >= _LARGE_BYTES:
            _send_one(place, file, store, count, Event())


def _send_one(
    place: DirectoryPlace, file: SourceFile, store: ObjectStore, count: _Count, stop: Event
) -> None:
    del stop
    path = place.path / file.name
    try:
        store.put_file(object_key(file.digest), path, digest=file.digest)
    except (ReplacedError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and path.exists():
            raise  # it is the store's folder that can't be made
        raise DataError(
            f"{path} was changed or deleted while it was uploaded",
            hint="start the upload again once nothing writes there any more: it sends what is new",
        ) from None
    count.add(file.size_bytes)


def _entry(file: SourceFile) -> ManifestFile:
    return ManifestFile(digest=file.digest, size_bytes=file.size_bytes)
