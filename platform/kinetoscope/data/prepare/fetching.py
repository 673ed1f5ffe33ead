"""Bring files of a place here, and find out what they are, ahead of those who decode them."""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.core.full_disk import MAKE_ROOM
from kinetoscope.core.machine_limits import disk_space
from kinetoscope.core.units import MIB, format_bytes
from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.sources.blocks import BlockDigests, digest_blocks
from kinetoscope.data.sources.directory import LocalBytes
from kinetoscope.data.sources.listing import SourceFile, SourceListing, changed_since
from kinetoscope.data.sources.place import VideoPlace
from kinetoscope.data.sources.reader import VerifiedFile
from kinetoscope.storage.parallel import in_order

_NUM_THREADS = 2
_NUM_AHEAD = 2
_WAIT_SECONDS = 0.05
# What is kept of a video, mostly the pictures of its scenes, and the digests of its blocks in JSON.
_KEPT_BYTES, _KEPT_PER_MIB = 24_000, 48
_NUM_SIDECAR_THREADS = 8
_MOST_SIDECAR_BYTES = 512 * MIB
# They are held in memory; of more, the largest are not read.
_MOST_SIDECARS_BYTES = 2048 * MIB


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file on this machine.

    Attributes:
        file: as it was listed.
        path: of its content.
        digests: of its content.
        folder: made for it; None where the file lies here anyway.
    """

    file: SourceFile
    path: Path
    digests: BlockDigests
    folder: Path | None = None

    def read(self) -> bytes:
        """Return the content; raises ``ChangedVideoError`` where it is not that of the digests."""
        with VerifiedFile(LocalBytes(self.path), self.digests, self.file.name) as file:
            return file.read()

    def discard(self) -> None:
        """Delete what was brought here for it."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def check_room(
    place: VideoPlace, listing: SourceListing, config: PrepareDataConfig, scratch: Path
) -> str:
    """Return how much room on the disk the work takes, in words.

    Args:
        place: of the videos; local ones are not fetched.
        listing: of the place.
        config: of the step.
        scratch: folder, which need not exist yet, for what has to be brought here.

    Raises:
        ConfigError: there is no room for the videos that are fetched at once.
    """
    at_once = _NUM_THREADS + _NUM_AHEAD + config.num_workers
    limit = config.limits.max_file_bytes
    sizes = sorted(file.size_bytes for file in listing.videos if file.size_bytes <= limit)
    needed = 0 if place.is_local else sum(sizes[-at_once:])
    free = disk_space(scratch).free
    if needed > free:
        raise ConfigError(
            f"{format_bytes(free)} are free at {scratch}; videos of {place.uri} that are fetched "
            f"at once may need {format_bytes(needed)}",
            hint=f"{MAKE_ROOM}, or lower prepare_data.limits.max_file_bytes",
        )
    kept = sum(_KEPT_BYTES + size // MIB * _KEPT_PER_MIB for size in sizes)
    fetched = f"{format_bytes(needed)} for videos fetched at once, " if needed else ""
    return (
        f"{len(sizes)} videos, {format_bytes(sum(sizes))}; disk needed: {fetched}about "
        f"{format_bytes(kept)} for results; {format_bytes(free)} are free at {scratch}"
    )


def fetch(place: VideoPlace, file: SourceFile, scratch: Path) -> Fetched:
    """Bring one file here and read it once, whole.

    Raises:
        DataError: it is another one than when it was listed, or gone.
        StorageError: it can't be read now.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="fetched-"))
    path = place.fetch(file, folder)
    brought = path.is_relative_to(folder)
    if not brought:
        folder.rmdir()
    try:
        digests = digest_blocks(LocalBytes(path), most_bytes=file.size_bytes + 1)
    except NotFoundError:
        raise changed_since(file, place.uri, "is gone") from None
    if file.digest and file.digest != digests.digest:
        raise place.mismatch(file)
    if digests.size_bytes != file.size_bytes:
        raise changed_since(file, place.uri, "was changed")
    return Fetched(file, path, digests, folder if brought else None)


def without_large_sidecars(listing: SourceListing) -> SourceListing:
    """Return the listing with the files refused that are too large for lists of captions."""
    too_large: dict[str, str] = {}
    total = 0
    for file in sorted(listing.sidecars, key=lambda file: (file.size_bytes, file.name)):
        total += file.size_bytes
        if file.size_bytes > _MOST_SIDECAR_BYTES:
            too_large[file.name] = f"larger than {_MOST_SIDECAR_BYTES // MIB} MiB"
        elif total > _MOST_SIDECARS_BYTES:
            too_large[file.name] = f"over {_MOST_SIDECARS_BYTES // MIB} MiB of texts and tables"
    files = (
        replace(file, refused=too_large[file.name]) if file.name in too_large else file
        for file in listing.files
    )
    return replace(listing, files=tuple(files))


def fetch_sidecars(place: VideoPlace, listing: SourceListing, scratch: Path) -> dict[str, bytes]:
    """Return the content of the files that may hold captions, by name; as `fetch` raises."""
    scratch.mkdir(parents=True, exist_ok=True)
    files = [file for file in listing.sidecars if not file.refused]
    tasks = [partial(_content, place, file, scratch) for file in files]
    contents = in_order(tasks, num_threads=_NUM_SIDECAR_THREADS) if tasks else []
    return {file.name: content for file, content in zip(files, contents, strict=True)}


def _content(place: VideoPlace, file: SourceFile, scratch: Path, stop: threading.Event) -> bytes:
    del stop
    fetched = fetch(place, file, scratch)
    try:
        return fetched.read()
    finally:
        fetched.discard()


class FetchAhead:
    """Fetches files in threads: a few more than are asked for, in any order.

    Args:
        place: of the files.
        files: to fetch.
        scratch: folder for what has to be brought here; removing it is the caller's.
    """

    def __init__(self, place: VideoPlace, files: Sequence[SourceFile], scratch: Path) -> None:
        self._place = place
        self._scratch = scratch
        self._num_left = len(files)
        self._todo = iter(files)
        self._lock = threading.Lock()
        self._done: queue.Queue[Fetched | BaseException] = queue.Queue(_NUM_AHEAD)
        # Daemons: whoever stops does not wait for a slow store.
        for _ in range(min(_NUM_THREADS, len(files))):
            threading.Thread(target=self._work, name="fetch", daemon=True).start()

    def __iter__(self) -> Iterator[Fetched | None]:
        """Yield files as they come; None each time nothing came.

        Raises:
            KinetoscopeError: what `fetch` raised.
        """
        while self._num_left:
            try:
                done = self._done.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                yield None
                continue
            if isinstance(done, BaseException):
                raise done
            self._num_left -= 1
            yield done

    def _work(self) -> None:
        while True:
            with self._lock:
                file = next(self._todo, None)
            if file is None:
                return
            try:
                self._done.put(fetch(self._place, file, self._scratch))
            except BaseException as error:  # raised again by whoever iterates
                self._done.put(error)
                return
