"""Preparing data: from videos to a clip table.

A video that can't be used is listed in the quarantine and never ends the work.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kinetoscope.core.errors import DataError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.data.captions.gather import gather_captions
from kinetoscope.data.clip_table import ClipRow, write_clip_table
from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.prepare.analysis import VideoAnalysis
from kinetoscope.data.prepare.examine import Examined, Examiner
from kinetoscope.data.prepare.fetching import (
    check_room,
    fetch_sidecars,
    without_large_sidecars,
)
from kinetoscope.data.prepare.report import QuarantineRow, ReportData, render_report
from kinetoscope.data.prepare.selection import Selection, select_clips
from kinetoscope.data.prepare.split import told_share
from kinetoscope.data.sources.blocks import BlockDigests
from kinetoscope.data.sources.index import IndexedVideo, write_index
from kinetoscope.data.sources.listing import SourceListing, require_videos
from kinetoscope.data.sources.place import VideoPlace
from kinetoscope.storage.store import ObjectStore

CLIPS_KEY = "outputs/clips"
CLIP_TABLE_NAME = "clips.parquet"
VIDEOS_KEY = "outputs/videos"
VIDEO_INDEX_NAME = "videos.parquet"
REPORT_KEY = "outputs/report/report.html"
QUARANTINE_KEY = "outputs/quarantine/quarantine.jsonl"
OUTPUT_FOLDERS = frozenset({"outputs", "parts"})


@dataclass(frozen=True, slots=True)
class Source:
    """The videos to prepare: where they lie, and which files there are meant."""

    place: VideoPlace
    listing: SourceListing


def _no_progress(done: int, total: int) -> None:
    del done, total


def _never() -> bool:
    return False


def _nobody_counts(selection: Selection, quarantine: Sequence[QuarantineRow]) -> None:
    del selection, quarantine


@dataclass(frozen=True, slots=True)
class Hooks:
    """How a caller follows and stops the work.

    Attributes:
        progress: called with the number of videos done and to do.
        stop_requested: polled between videos.
        selected: called with the clips chosen and dropped and the files not used, once these are
            known.
    """

    progress: Callable[[int, int], None] = _no_progress
    stop_requested: Callable[[], bool] = _never
    selected: Callable[[Selection, Sequence[QuarantineRow]], None] = _nobody_counts


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was prepared.

    Attributes:
        videos_digest: of the list of files by their content, wherever they lie.
        num_train: clips to train on; likewise ``num_heldout``.
        dropped: clips dropped, by reason.
        quarantine: files not used.
        num_left_out: folders that Kinetoscope made, not looked into.
        captions: where they came from, and what was passed over (``captions.found``).
        shown: videos that are shown otherwise than stored, or should be
            (``video.peculiarities``).
        notes: what else people should know of the clips.
    """

    videos_digest: str
    num_videos: int
    num_train: int
    num_heldout: int
    dropped: dict[str, int]
    quarantine: list[QuarantineRow] = field(default_factory=list)
    num_left_out: int = 0
    captions: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """Return the counts under their metric names."""
        return {
            "clips.total": float(self.num_train + self.num_heldout),
            "clips.train": float(self.num_train),
            "clips.heldout": float(self.num_heldout),
            "clips.dropped": float(sum(self.dropped.values())),
            "clips.quarantined": float(len(self.quarantine)),
        }


def prepare(
    source: Source,
    store: ObjectStore,
    config: PrepareDataConfig,
    *,
    seed: int,
    scratch: Path,
    hooks: Hooks | None = None,
) -> Prepared:
    """Probe, cut, score, filter, caption and split videos.

    Writes into the store ``outputs/clips/clips.parquet``, ``outputs/videos/videos.parquet`` (what
    the clips' videos are: ``sources.index``), ``outputs/report/report.html``,
    ``outputs/quarantine/quarantine.jsonl`` (rows of path, reason, detail) and, under ``parts/``,
    what it found out about each video. Equal input gives equal bytes, wherever it lies.

    Args:
        source: the videos.
        store: of the step.
        config: of the step.
        seed: of the run.
        scratch: folder for files that have to be brought here; its content may be deleted after.
        hooks: to follow and stop the work.

    Raises:
        ConfigError: the disk has no room for what has to be fetched.
        DataError: no video, no usable clip (names what was dropped and why), or too few to split;
            or a file was changed since it was listed.
        PreemptedError: told to stop; a later call goes on from there.
    """
    place, listing = source.place, require_videos(source.listing, source.place.uri)
    hooks = hooks or Hooks()
    check_room(place, listing, config, scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    listing = without_large_sidecars(listing)
    contents = fetch_sidecars(place, listing, scratch)
    captions = gather_captions(listing, contents, place.uri)
    captions.require(config.captions.min_matched, place.uri)
    examiner = Examiner(place, store, config, scratch, hooks.progress, hooks.stop_requested)
    found = examiner.examine(listing.openable_videos)
    quarantine = list(_quarantine(listing, found))
    selection = select_clips(listing.openable_videos, found, captions, config)
    hooks.selected(selection, quarantine)
    if not selection.candidates:
        raise _nothing_left(place.uri, listing, selection, quarantine)
    rows = selection.rows(config, seed)
    report = ReportData(
        num_videos=len(listing.videos),
        rows=rows,
        thumbnails={clip.clip_id: clip.scene.thumbnail for clip in selection.candidates},
        dropped=dict(sorted(selection.dropped.items())),
        quarantine=quarantine,
        num_left_out=listing.num_left_out,
        captions=captions.to_json(),
        shown=_counts_shown(listing, found),
        notes=tuple(_notes(selection, rows, config)),
        origins={clip.clip_id: clip.caption.origin for clip in selection.candidates},
    )
    _write(store, report, found, scratch)
    return _prepared(report, _content_digest(listing, found, contents))


def _prepared(report: ReportData, videos_digest: str) -> Prepared:
    num_train = sum(row.split == "train" for row in report.rows)
    return Prepared(
        videos_digest=videos_digest,
        num_videos=report.num_videos,
        num_train=num_train,
        num_heldout=len(report.rows) - num_train,
        dropped=report.dropped,
        quarantine=list(report.quarantine),
        num_left_out=report.num_left_out,
        captions=report.captions,
        shown=report.shown,
        notes=report.notes,
    )


def _content_digest(listing: SourceListing, found: Examined, contents: dict[str, bytes]) -> str:
    digests = found.digests | {name: digest_bytes(data) for name, data in contents.items()}
    files = (
        file if file.refused else replace(file, version=digests[file.name])
        for file in listing.files
    )
    return SourceListing(tuple(files)).digest


def _quarantine(listing: SourceListing, found: Examined) -> Iterator[QuarantineRow]:
    for video in listing.videos:
        if video.refused is not None:
            yield QuarantineRow(video.name, "hostile", video.refused)
        elif (reason := found.verdict(video).reason) is not None:
            yield QuarantineRow(video.name, reason, found.verdict(video).detail)


def _counts_shown(listing: SourceListing, found: Examined) -> dict[str, int]:
    """Count the videos of each peculiarity."""
    videos = listing.openable_videos
    counts = Counter(kind for video in videos for kind in found.verdict(video).shown)
    return dict(sorted(counts.items()))


def _notes(
    selection: Selection, rows: Sequence[ClipRow], config: PrepareDataConfig
) -> Iterator[str]:
    if selection.of_one_video:
        yield "all clips come from one video: other takes of it are held out than trained on"
    num_heldout = sum(row.split == "heldout" for row in rows)
    if told := told_share(num_heldout, len(rows), config.split.heldout_fraction):
        yield told


def _nothing_left(
    place: str, listing: SourceListing, selection: Selection, quarantine: list[QuarantineRow]
) -> DataError:
    reasons = Counter(row.reason for row in quarantine)
    return DataError(
        f"no usable clip in {place}: of {len(listing.videos)} videos {len(quarantine)} were "
        f"quarantined ({_counts(reasons)}) and {sum(selection.dropped.values())} clips dropped "
        f"({_counts(selection.dropped)})",
        hint="add videos, or loosen prepare_data.limits and prepare_data.filters",
    )


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items())) or "none"


def _write(store: ObjectStore, report: ReportData, found: Examined, scratch: Path) -> None:
    lines: list[dict[str, Any]] = [asdict(row) for row in report.quarantine]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    store.put_bytes(QUARANTINE_KEY, text.encode())
    store.put_bytes(REPORT_KEY, render_report(report).encode())
    # In the scratch folder: whoever sweeps that also sweeps what a kill leaves of it.
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder, CLIP_TABLE_NAME)
        write_clip_table(path, report.rows)
        store.put_file(f"{CLIPS_KEY}/{CLIP_TABLE_NAME}", path)
    kept = {row.digest for row in report.rows}
    index = write_index(_indexed(digest, found.verdicts[digest]) for digest in kept)
    store.put_bytes(f"{VIDEOS_KEY}/{VIDEO_INDEX_NAME}", index)


def _indexed(digest: str, verdict: VideoAnalysis) -> IndexedVideo:
    blocks = BlockDigests(verdict.size_bytes, digest, base64.b64decode(verdict.blocks))
    return IndexedVideo(blocks, verdict.times)
