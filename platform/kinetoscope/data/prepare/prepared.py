"""What goes into preparing data, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinetoscope.data.prepare.report import QuarantineRow
    from kinetoscope.data.prepare.selection import Selection
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
