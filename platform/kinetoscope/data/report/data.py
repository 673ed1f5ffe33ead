"""What the report of a prepared data set is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl

    from kinetoscope.data.report.bucket_table import BucketTable


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """A file that was not used, by its path in the directory."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two clips that show the same, by their row numbers.

    Attributes:
        one: row of a clip; likewise ``other``.
        distance: of the two, 0 for equal ones.
        kind: how they are alike, in a word or a few.
    """

    one: int
    other: int
    distance: float
    kind: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """What the report shows.

    Attributes:
        num_videos: files read, quarantined ones included.
        clips: all clips of usable videos: ``clip_id``, ``video``, ``start_frame``, ``num_frames``,
            ``fps``, ``own_fps`` (the source's own), ``height``, ``width``, ``caption``, ``origin``
            (where the caption came from), ``reason`` (why the clip was dropped; null where it was
            kept), ``group`` and ``split`` (null where it was dropped), and a column per score.
        scores: names of these columns.
        thumbnail: gives the base64 of a JPEG for a row of ``clips``; called for rows that are
            shown.
        pairs: near-duplicates.
        quarantine: files not used.
        captions: where they came from (``captions.found``).
        shown: videos by ``video.peculiarities``.
        notes: what else people should know of the clips.
        buckets: how the clips to train on fall into the buckets, by the name of the stage.
        num_left_out: folders that Kinetoscope made, not looked into.
    """

    num_videos: int
    clips: pl.DataFrame
    scores: tuple[str, ...]
    thumbnail: Callable[[int], str]
    pairs: Sequence[NearPair]
    quarantine: Sequence[QuarantineRow]
    captions: dict[str, Any]
    shown: dict[str, int]
    notes: tuple[str, ...]
    buckets: Mapping[str, BucketTable]
    num_left_out: int = 0
