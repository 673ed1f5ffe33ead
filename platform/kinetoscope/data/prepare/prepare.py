"""Preparing data: from a directory of videos to a clip table.

A video that can't be used is listed in the quarantine and never ends the work. Verdicts on finished
videos are kept in the store by content, so that an interrupted call goes on where it was.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kinetoscope.core.errors import CorruptError, DataError, PreemptedError
from kinetoscope.core.hashing import digest_file
from kinetoscope.data.clip_table import write_clip_table
from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.prepare.analysis import VideoAnalysis, analyze, analyze_file
from kinetoscope.data.prepare.captions import read_captions
from kinetoscope.data.prepare.decode import timeout_detail
from kinetoscope.data.prepare.guarded_pool import Casualty, GuardedPool
from kinetoscope.data.prepare.report import QuarantineRow, ReportData, render_report
from kinetoscope.data.prepare.selection import Selection, select_clips
from kinetoscope.data.prepare.sources import SourceListing, digest_listing, list_videos
from kinetoscope.storage.records import read_record
from kinetoscope.storage.store import ObjectStore

CLIPS_KEY = "outputs/clips"
CLIP_TABLE_NAME = "clips.parquet"
REPORT_KEY = "outputs/report/report.html"
QUARANTINE_KEY = "outputs/quarantine/quarantine.jsonl"
OUTPUT_FOLDERS = frozenset({"outputs", "parts"})

_log = logging.getLogger(__name__)


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
        videos_digest: of what was read, as ``sources.videos_digest`` gives it.
        num_train: clips to train on; likewise ``num_heldout``.
        dropped: clips dropped, by reason.
        quarantine: files not used.
        num_left_out: folders that Kinetoscope made, not looked into.
    """

    videos_digest: str
    num_videos: int
    num_train: int
    num_heldout: int
    dropped: dict[str, int]
    quarantine: list[QuarantineRow] = field(default_factory=list)
    num_left_out: int = 0

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
    directory: Path,
    store: ObjectStore,
    config: PrepareDataConfig,
    *,
    seed: int,
    hooks: Hooks | None = None,
) -> Prepared:
    """Probe, cut, score, filter, caption and split the videos of a directory.

    Writes into the store ``outputs/clips/clips.parquet``, ``outputs/report/report.html``,
    ``outputs/quarantine/quarantine.jsonl`` (rows of path, reason, detail) and, under ``parts/``,
    what it found out about each video. Equal input gives equal bytes.

    Raises:
        DataError: no video, no usable clip (names what was dropped and why), or too few to split.
        PreemptedError: told to stop; a later call goes on from there.
    """
    listing = list_videos(directory)
    captions = read_captions(listing)
    digests = _digests(listing)
    hooks = hooks or Hooks()
    verdicts = _verdicts(listing, digests, store, config, hooks)
    quarantine = list(_quarantine(listing, digests, verdicts))
    selection = select_clips(listing.videos, digests, verdicts, captions, config)
    hooks.selected(selection, quarantine)
    if not selection.candidates:
        raise _nothing_left(directory, listing, selection, quarantine)
    rows = selection.rows(config, seed)
    report = ReportData(
        num_videos=len(listing.videos),
        rows=rows,
        thumbnails={clip.clip_id: clip.scene.thumbnail for clip in selection.candidates},
        dropped=dict(selection.dropped),
        quarantine=quarantine,
        num_left_out=listing.num_left_out,
    )
    _write(store, report)
    num_train = sum(row.split == "train" for row in rows)
    return Prepared(
        videos_digest=digest_listing(listing, digests),
        num_videos=len(listing.videos),
        num_train=num_train,
        num_heldout=len(rows) - num_train,
        dropped=dict(sorted(selection.dropped.items())),
        quarantine=quarantine,
        num_left_out=listing.num_left_out,
    )


def _digests(listing: SourceListing) -> dict[str, str]:
    files = (*listing.videos, *listing.sidecars)
    return {file.name: digest_file(file.path) for file in files if file.refused is None}


def _verdicts(
    listing: SourceListing,
    digests: dict[str, str],
    store: ObjectStore,
    config: PrepareDataConfig,
    hooks: Hooks,
) -> dict[str, VideoAnalysis]:
    """Return the analyses by digest, from the store or from decoding."""
    wanted = {digests[video.name]: video.path for video in listing.videos if not video.refused}
    kept = {stat.key for stat in store.list("parts")}
    found = {digest: _kept(store, digest) for digest in wanted if _part_key(digest) in kept}
    verdicts = {digest: verdict for digest, verdict in found.items() if verdict is not None}
    todo = [(digest, path) for digest, path in wanted.items() if digest not in verdicts]
    hooks.progress(len(verdicts), len(wanted))
    # Closed at once: the worker processes must not outlive a stop or an error.
    with closing(_analyses([path for _, path in todo], config)) as analyses:
        for done in analyses:
            if done is not None:
                index, verdict, lasting = done
                digest = todo[index][0]
                verdicts[digest] = verdict
                if lasting:
                    store.put_bytes(_part_key(digest), verdict.to_bytes())
                hooks.progress(len(verdicts), len(wanted))
            if hooks.stop_requested():
                raise PreemptedError(f"stopped after {len(verdicts)} of {len(wanted)} videos")
    return verdicts


def _kept(store: ObjectStore, digest: str) -> VideoAnalysis | None:
    try:
        return read_record(store, _part_key(digest), VideoAnalysis)
    except CorruptError as error:
        _log.warning("analysing a video again: %s", error.message)
        return None


def _part_key(digest: str) -> str:
    return f"parts/{digest.removeprefix('sha256:')}.json"


def _analyses(
    paths: Sequence[Path], config: PrepareDataConfig
) -> Generator[tuple[int, VideoAnalysis, bool] | None]:
    """Yield ``(index, verdict, whether it may be kept)`` as they come, None while nothing does."""
    if config.num_workers == 1:
        for index, path in enumerate(paths):
            yield index, analyze(path, config), True
        return
    tasks = [(path, config) for path in paths]
    with GuardedPool(analyze_file, config.num_workers, config.limits.timeout_seconds) as pool:
        for done in pool.run(tasks):
            if done is None:
                yield None
            elif isinstance(done[1], Casualty):
                # Perhaps the machine's fault (memory, load): tried again when the step is.
                yield done[0], _casualty(done[1], config), False
            else:
                yield done[0], done[1], True


def _casualty(casualty: Casualty, config: PrepareDataConfig) -> VideoAnalysis:
    detail = f"the decoder's process died (exit code {casualty.exit_code})"
    if casualty.timed_out:
        detail = timeout_detail(config.limits)
    return VideoAnalysis(reason="hostile", detail=detail)


def _quarantine(
    listing: SourceListing, digests: dict[str, str], verdicts: dict[str, VideoAnalysis]
) -> Iterator[QuarantineRow]:
    for video in listing.videos:
        if video.refused is not None:
            yield QuarantineRow(video.name, "hostile", video.refused)
        elif (reason := verdicts[digests[video.name]].reason) is not None:
            yield QuarantineRow(video.name, reason, verdicts[digests[video.name]].detail)


def _nothing_left(
    directory: Path, listing: SourceListing, selection: Selection, quarantine: list[QuarantineRow]
) -> DataError:
    reasons = Counter(row.reason for row in quarantine)
    return DataError(
        f"no usable clip in {directory}: of {len(listing.videos)} videos {len(quarantine)} were "
        f"quarantined ({_counts(reasons)}) and {sum(selection.dropped.values())} clips dropped "
        f"({_counts(selection.dropped)})",
        hint="add videos, or loosen prepare_data.limits and prepare_data.filters",
    )


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items())) or "none"


def _write(store: ObjectStore, report: ReportData) -> None:
    lines: list[dict[str, Any]] = [asdict(row) for row in report.quarantine]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    store.put_bytes(QUARANTINE_KEY, text.encode())
    store.put_bytes(REPORT_KEY, render_report(report).encode())
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, CLIP_TABLE_NAME)
        write_clip_table(path, report.rows)
        store.put_file(f"{CLIPS_KEY}/{CLIP_TABLE_NAME}", path)
