"""What goes into preparing data, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinetoscope.data.prepare.selection import Selection, Sizes
    from kinetoscope.data.report.bucket_table import BucketTable
    from kinetoscope.data.report.data import QuarantineRow
    from kinetoscope.data.sources.listing import SourceListing
    from kinetoscope.data.sources.place import VideoPlace


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


def _no_buckets(sizes: Sizes) -> dict[str, BucketTable]:
    del sizes
    return {}


@dataclass(frozen=True, slots=True)
class Hooks:
    """How a caller follows and stops the work.

    Attributes:
        progress: called with the number of videos done and to do.
        stop_requested: polled between videos.
        selected: called with the clips chosen and dropped and the files not used, once these are
            known.
        buckets: called with ``num_frames``, ``height`` and ``width`` of the clips to train on, in
            the clip table's order; returns how they fall into the buckets of each stage.
    """

    progress: Callable[[int, int], None] = _no_progress
    stop_requested: Callable[[], bool] = _never
    selected: Callable[[Selection, Sequence[QuarantineRow]], None] = _nobody_counts
    buckets: Callable[[Sizes], dict[str, BucketTable]] = _no_buckets


UNWATCHED = Hooks()


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
        buckets: that the clips to train on fall into, by stage.
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
    buckets: dict[str, BucketTable] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Return the counts under their metric names."""
        return {
            "clips.total": float(self.num_train + self.num_heldout),
            "clips.train": float(self.num_train),
            "clips.heldout": float(self.num_heldout),
            "clips.dropped": float(sum(self.dropped.values())),
            "clips.quarantined": float(len(self.quarantine)),
        }
