"""Find out what each video of a place is: its digests, and what decoding says of it.

Verdicts are kept in the store by content (``parts/<digest>.json``), and which content a remote
object has by its version (``parts/objects/<...>.json``): an interrupted call goes on where it was.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2

from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import CorruptError, KinetoscopeError, PreemptedError
from kinetoscope.core.hashing import digest_json
from kinetoscope.core.units import GIB, format_bytes
from kinetoscope.data.config import LimitsConfig, PrepareDataConfig, ScenesConfig
from kinetoscope.data.prepare.analysis import ANALYSIS_REVISION, VideoAnalysis, analyze
from kinetoscope.data.prepare.fetching import FetchAhead, Fetched
from kinetoscope.data.prepare.guarded_pool import Casualty, GuardedPool
from kinetoscope.data.prepare.quarantine import timeout_detail
from kinetoscope.data.sources.directory import LocalBytes
from kinetoscope.data.sources.listing import SourceFile
from kinetoscope.data.sources.place import VideoPlace
from kinetoscope.data.sources.reader import VerifiedFile
from kinetoscope.storage.records import R, read_record
from kinetoscope.storage.store import ObjectStore

_PARTS = "parts"
_DIGEST = "sha256:"
_PROCESS_BYTES = 2 * GIB
# 2 x 17 frames of 4:4:4 in 16 bits; H.264 of 8192x2048 and 16 reference frames takes 190.
_BYTES_PER_PIXEL = 256
_log = logging.getLogger(__name__)


class KnownObject(Record):
    """Which content an object of a version has."""

    digest: str


@dataclass(slots=True)
class Examined:
    """What was found out.

    Attributes:
        kept: keys of what the store had of earlier calls.
        digests: by the video's name; of one that was not even read, its name stands for it.
        verdicts: by digest, without pictures.
        num_done: videos that need no more work.
        num_damaged: notes of earlier calls that were damaged, and are made again.
    """

    kept: frozenset[str] = frozenset()
    digests: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, VideoAnalysis] = field(default_factory=dict)
    num_done: int = 0
    num_damaged: int = 0

    def verdict(self, file: SourceFile) -> VideoAnalysis:
        """Return what was found out about a video that may be opened."""
        return self.verdicts[self.digests[file.name]]


class _Task(NamedTuple):
    """A video to decode, and what is known of it already."""

    fetched: Fetched
    config: PrepareDataConfig
    known: VideoAnalysis | None


@dataclass(frozen=True, slots=True)
class Examiner:
    """Examines the videos of a place.

    Args:
        place: where they lie.
        store: that keeps verdicts.
        config: of the step.
        scratch: folder for what has to be brought here.
        progress: called with the number of videos done and to do.
        stop_requested: polled between videos.
    """

    place: VideoPlace
    store: ObjectStore
    config: PrepareDataConfig
    scratch: Path
    progress: Callable[[int, int], None]
    stop_requested: Callable[[], bool]

    def examine(self, videos: Sequence[SourceFile]) -> Examined:
        """Return what the videos are.

        Raises:
            DataError: one was changed since it was listed.
            StorageError: one can't be read now.
            PreemptedError: told to stop; a later call goes on from there.
        """
        # Listed once: to ask for each video, most of which are new, takes long in a bucket.
        found = Examined(frozenset(stat.key for stat in self.store.list(_PARTS)))
        todo = [file for file in videos if not self._settled(file, found)]
        self.progress(found.num_done, len(videos))
        # Closed at once: the worker processes must not outlive a stop or an error.
        with closing(self._analyses(todo, found)) as analyses:
            for done in analyses:
                if done is not None:
                    self._keep(*done, found)
                self.progress(found.num_done, len(videos))
                if self.stop_requested():
                    raise PreemptedError(f"stopped after {found.num_done} of {len(videos)} videos")
        if found.num_damaged > 1:
            _log.warning("%d damaged notes of earlier calls were made again", found.num_damaged)
        return found

    def _settled(self, file: SourceFile, found: Examined) -> bool:
        """Note what is known of a video without reading it; return whether that is all."""
        limit = self.config.limits.max_file_bytes
        if file.size_bytes > limit:
            detail = f"{file.size_bytes} bytes; limit {limit} (max_file_bytes)"
            found.digests[file.name] = file.name
            found.verdicts[file.name] = VideoAnalysis(reason="too_large", detail=detail)
            found.num_done += 1
            return True
        digest = "" if self.place.is_local else file.digest or self._known_digest(file, found)
        verdict = self._kept_verdict(digest, found) if digest else None
        if verdict is None or verdict.missing(self.config.measured):
            return False
        found.digests[file.name], found.verdicts[digest] = digest, verdict.without_pictures()
        found.num_done += 1
        return True

    def _analyses(
        self, todo: list[SourceFile], found: Examined
    ) -> Generator[tuple[Fetched, VideoAnalysis, bool] | None]:
        """Yield ``(video, verdict, whether it may be kept)``; None while nothing comes."""
        tasks = self._tasks(todo, found)
        if self.config.num_workers == 1:
            for task in tasks:
                yield (task.fetched, _analyze(task), True) if task else None
            return
        limits = self.config.limits
        pool = GuardedPool(
            _analyze_alone,
            self.config.num_workers,
            limits.timeout_seconds,
            memory_bytes=_memory_bytes(limits),
        )
        with pool:
            for done in pool.run(tasks):
                if done is None:
                    yield None
                elif isinstance(done[1], Casualty):
                    # Perhaps the machine's fault (memory, load): tried again when the step is.
                    yield done[0].fetched, self._casualty(done[1]), False
                else:
                    yield done[0].fetched, done[1], True

    def _tasks(self, todo: list[SourceFile], found: Examined) -> Iterator[_Task | None]:
        """Yield the videos that are to be decoded, each content once; None while none is here."""
        begun: set[str] = set()
        for fetched in FetchAhead(self.place, todo, self.scratch):
            if fetched is None:
                yield None
                continue
            digest = fetched.digests.digest
            found.digests[fetched.file.name] = digest
            self._note_object(fetched.file, digest)
            known = None if digest in begun else self._kept_verdict(digest, found)
            settled = known is not None and not known.missing(self.config.measured)
            if known is not None and settled:
                found.verdicts[digest] = known.without_pictures()
            if settled or digest in begun:
                fetched.discard()
                found.num_done += 1
                yield None
            else:
                begun.add(digest)
                yield _Task(fetched, self.config, known)

    def _keep(
        self, fetched: Fetched, analysis: VideoAnalysis, lasting: bool, found: Examined
    ) -> None:
        fetched.discard()
        digests = fetched.digests
        blocks = base64.b64encode(digests.blocks).decode()
        verdict = analysis.model_copy(update={"size_bytes": digests.size_bytes, "blocks": blocks})
        found.verdicts[digests.digest] = verdict.without_pictures()
        found.num_done += 1
        if lasting:
            self.store.put_bytes(self._part_key(digests.digest), verdict.to_bytes())

    def thumbnail(self, digest: str, start: int) -> str:
        """Return the picture of a scene as a JPEG in base64; empty where it was deleted."""
        try:
            verdict = read_record(self.store, self._part_key(digest), VideoAnalysis)
        except CorruptError:
            verdict = None
        return next(
            (s.thumbnail for s in (verdict.scenes if verdict else ()) if s.start == start), ""
        )

    def _casualty(self, casualty: Casualty) -> VideoAnalysis:
        detail = f"the decoder's process died (exit code {casualty.exit_code})"
        if casualty.timed_out:
            detail = timeout_detail(self.config.limits)
        elif casualty.out_of_memory:
            most = format_bytes(_memory_bytes(self.config.limits))
            detail = f"decoding it takes more than {most} of memory (max_pixels)"
        return VideoAnalysis(reason="hostile", detail=detail)

    def _kept_verdict(self, digest: str, found: Examined) -> VideoAnalysis | None:
        return self._kept(self._part_key(digest), VideoAnalysis, found)

    def _known_digest(self, file: SourceFile, found: Examined) -> str:
        known = self._kept(self._object_key(file), KnownObject, found)
        return known.digest if known is not None else ""

    def _kept(self, key: str, kind: type[R], found: Examined) -> R | None:
        if key not in found.kept:
            return None
        try:
            return read_record(self.store, key, kind)
        except CorruptError as error:
            # The first is told; thousands would drown the log.
            found.num_damaged += 1
            if found.num_damaged == 1:
                _log.warning("analysing a video again: %s", error.message)
            return None

    def _note_object(self, file: SourceFile, digest: str) -> None:
        if file.etag:
            self.store.put_bytes(self._object_key(file), KnownObject(digest=digest).to_bytes())

    def _part_key(self, digest: str) -> str:
        """Return where the verdict on a content lies: another one under other settings."""
        asked = _settings_key(self.config.fps, self.config.limits, self.config.scenes)
        return f"{_PARTS}/{digest.removeprefix(_DIGEST)}-{asked}.json"

    def _object_key(self, file: SourceFile) -> str:
        named = digest_json([self.place.uri, file.name, file.size_bytes, file.version])
        return f"{_PARTS}/objects/{named.removeprefix(_DIGEST)}.json"


@cache  # asked for twice a video
def _settings_key(fps: float | None, limits: LimitsConfig, scenes: ScenesConfig) -> str:
    settings = [fps, limits.model_dump(), scenes.model_dump()]
    return digest_json([ANALYSIS_REVISION, settings]).removeprefix(_DIGEST)[:16]


def _memory_bytes(limits: LimitsConfig) -> int:
    """Return what a worker may use: a decoder keeps up to 17 frames, and their copies."""
    return _PROCESS_BYTES + limits.max_pixels * _BYTES_PER_PIXEL


def _analyze(task: _Task) -> VideoAnalysis:
    """Decode a video; raises ``ChangedVideoError`` where it changes meanwhile."""
    fetched = task.fetched
    with VerifiedFile(LocalBytes(fetched.path), fetched.digests, fetched.file.name) as file:
        try:
            return analyze(file, task.config, task.known)
        except (KinetoscopeError, MemoryError):
            raise
        except Exception as error:  # of libraries that a hostile file reached; it costs that file
            return VideoAnalysis(reason="unreadable", detail=f"{type(error).__name__}: {error}")


def _analyze_alone(task: _Task) -> VideoAnalysis:
    """Run `_analyze` in a worker process of its own."""
    # Files are decoded in parallel already.
    cv2.setNumThreads(1)
    return _analyze(task)
