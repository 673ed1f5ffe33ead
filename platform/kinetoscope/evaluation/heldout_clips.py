"""The clips that evaluation reads: held out of training."""

from __future__ import annotations

import numpy as np

from kinetoscope.data.clip_table import ClipTable


def heldout(table: ClipTable, count: int, *, min_frames: int = 1) -> ClipTable:
    """Return at most ``count`` held-out clips of some length, spread evenly over the table."""
    rows = table.split("heldout")
    fitting = np.flatnonzero(rows.num_frames >= min_frames)
    if len(fitting) > count:
        fitting = fitting[np.linspace(0, len(fitting) - 1, count).round().astype(int)]
    return rows.take(fitting)
