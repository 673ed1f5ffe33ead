"""How the clips of a stage fall into its buckets, as plain values; read without numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BucketRow:
    """One bucket that took clips.

    Attributes:
        resolution: its name, e.g. ``240p``.
        num_frames: frames of a sample.
        height: of a sample in pixels; likewise ``width``.
        num_clips: that it took.
        batch_size: samples of a batch.
    """

    resolution: str
    num_frames: int
    height: int
    width: int
    num_clips: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class BucketTable:
    """The buckets of a stage.

    Attributes:
        num_clips: all that the stage may train on: those of the rows and those left out.
        rows: the buckets that took clips, sorted.
        left_out: clips that no bucket took, by reason.
    """

    num_clips: int
    rows: list[BucketRow]
    left_out: dict[str, int]

    @property
    def num_taken(self) -> int:
        """Clips that some bucket took."""
        return sum(row.num_clips for row in self.rows)
