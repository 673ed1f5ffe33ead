"""Preparing data: from videos to a clip table.

A video that can't be used is listed in the quarantine and never ends the work.
"""

from __future__ import annotations

import base64
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinetoscope.core.errors import DataError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.data.captions.gather import gather_captions
from kinetoscope.data.clip_table import arrow_columns, write_clip_table
from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.prepare.analysis import VideoAnalysis
from kinetoscope.data.prepare.candidates import gather_clips
from kinetoscope.data.prepare.examine import Examined, Examiner
from kinetoscope.data.prepare.fetching import (
    check_room,
    fetch_sidecars,
    without_large_sidecars,
)
from kinetoscope.data.prepare.filters import check_filters
from kinetoscope.data.prepare.prepared import UNWATCHED, Hooks, Prepared, Source
from kinetoscope.data.prepare.selection import Selection, told_counts
from kinetoscope.data.report.data import QuarantineRow, ReportData
from kinetoscope.data.report.page import render_report
from kinetoscope.data.sources.blocks import BlockDigests
from kinetoscope.data.sources.index import IndexedVideo, write_index
from kinetoscope.data.sources.listing import SourceListing, require_videos
from kinetoscope.storage.store import ObjectStore

if TYPE_CHECKING:
    import polars as pl

CLIPS_KEY = "outputs/clips"
CLIP_TABLE_NAME = "clips.parquet"
VIDEOS_KEY = "outputs/videos"
VIDEO_INDEX_NAME = "videos.parquet"
REPORT_KEY = "outputs/report/report.html"
QUARANTINE_KEY = "outputs/quarantine/quarantine.jsonl"
OUTPUT_FOLDERS = frozenset({"outputs", "parts"})

_log = logging.getLogger(__name__)


def prepare(
    source: Source,
    store: ObjectStore,
    config: PrepareDataConfig,
    *,
    seed: int,
    scratch: Path,
    hooks: Hooks = UNWATCHED,
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
        ConfigError: no room on the disk for what has to be fetched, or a filter can't be asked.
        DataError: no video, no usable clip (names what was dropped and why), or too few to split;
            or a file was changed since it was listed.
        PreemptedError: told to stop; a later call goes on from there.
    """
    check_filters(config)
    place, listing = source.place, require_videos(source.listing, source.place.uri)
    _log.info(check_room(place, listing, config, scratch))
    listing = without_large_sidecars(listing)
    contents = fetch_sidecars(place, listing, scratch)
    captions = gather_captions(listing, contents, place.uri)
    captions.require(config.captions.min_matched, place.uri)
    examiner = Examiner(place, store, config, scratch, hooks.progress, hooks.stop_requested)
    found = examiner.examine(listing.openable_videos)
    quarantine = list(_quarantine(listing, found))
    selection = Selection(gather_clips(listing.openable_videos, found, captions, config), config)
    with _told(selection, quarantine, hooks):
        if not selection.num_kept:
            raise _nothing_left(place.uri, listing, selection, quarantine)
        selection.split(seed)
    report = ReportData(
        num_videos=len(listing.videos),
        clips=selection.table,
        scores=config.measured,
        thumbnail=partial(_thumbnail, examiner, selection.table),
        pairs=selection.pairs,
        quarantine=quarantine,
        num_left_out=listing.num_left_out,
        captions=captions.to_json(),
        shown=_counts_shown(listing, found),
        notes=tuple(selection.notes()),
        buckets=hooks.buckets(selection.sizes_to_train_on()),
    )
    _write(store, selection, report, found, scratch)
    return _prepared(selection, report, _content_digest(listing, found, contents))


@contextmanager
def _told(
    selection: Selection, quarantine: Sequence[QuarantineRow], hooks: Hooks
) -> Iterator[None]:
    """Tell what was selected in the end, also where that is refused."""
    try:
        yield
    finally:
        hooks.selected(selection, quarantine)


def _prepared(selection: Selection, report: ReportData, videos_digest: str) -> Prepared:
    num_train = int((selection.kept["split"] == "train").sum())
    return Prepared(
        videos_digest=videos_digest,
        num_videos=report.num_videos,
        num_train=num_train,
        num_heldout=selection.num_kept - num_train,
        dropped=dict(sorted(selection.dropped.items())),
        quarantine=list(report.quarantine),
        num_left_out=report.num_left_out,
        captions=report.captions,
        shown=report.shown,
        notes=report.notes,
        buckets=dict(report.buckets),
    )


def _thumbnail(examiner: Examiner, clips: pl.DataFrame, row: int) -> str:
    digest, start = clips.select("digest", "start_frame").row(row)
    return examiner.thumbnail(digest, start)


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


def _nothing_left(
    place: str, listing: SourceListing, selection: Selection, quarantine: list[QuarantineRow]
) -> DataError:
    reasons = Counter(row.reason for row in quarantine)
    return DataError(
        f"no usable clip in {place}: of {len(listing.videos)} videos {len(quarantine)} were "
        f"quarantined ({told_counts(reasons)}) and {sum(selection.dropped.values())} clips dropped "
        f"({told_counts(selection.dropped)})",
        hint="add videos, or loosen prepare_data.limits and prepare_data.filters",
    )


def _write(
    store: ObjectStore, selection: Selection, report: ReportData, found: Examined, scratch: Path
) -> None:
    _write_report(store, report)
    kept = selection.kept
    table = arrow_columns(kept, {name: kept[name].to_numpy() for name in report.scores})
    # In the scratch folder: whoever sweeps that also sweeps what a kill leaves of it.
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder, CLIP_TABLE_NAME)
        write_clip_table(path, table)
        store.put_file(f"{CLIPS_KEY}/{CLIP_TABLE_NAME}", path)
    digests = kept["digest"].unique()
    index = write_index(_indexed(digest, found.verdicts[digest]) for digest in digests)
    store.put_bytes(f"{VIDEOS_KEY}/{VIDEO_INDEX_NAME}", index)


def _write_report(store: ObjectStore, report: ReportData) -> None:
    lines: list[dict[str, Any]] = [asdict(row) for row in report.quarantine]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    store.put_bytes(QUARANTINE_KEY, text.encode())
    store.put_bytes(REPORT_KEY, render_report(report).encode())


def _indexed(digest: str, verdict: VideoAnalysis) -> IndexedVideo:
    blocks = BlockDigests(verdict.size_bytes, digest, base64.b64decode(verdict.blocks))
    return IndexedVideo(blocks, verdict.times, verdict.even)
