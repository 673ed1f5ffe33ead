"""The clips that evaluation reads: held out of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinetoscope.data.clip_table import ClipTable, read_clip_table
from kinetoscope.storage.open import as_local, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from kinetoscope.steps.contract import StepResult


def read_clips(prepared: StepResult, scratch: Path) -> ClipTable:
    """Return the clip table that prepare_data committed."""
    root, _, key = prepared.artifact("clips").uri.rpartition("/")
    store = open_store(root)
    (stat,) = (stat for stat in store.list(key) if stat.key.endswith(".parquet"))
    return read_clip_table(as_local(store, stat.key, scratch))


def heldout(table: ClipTable, count: int, *, min_frames: int = 1) -> ClipTable:
    """Return at most ``count`` held-out clips of some length, spread evenly over the table."""
    rows = table.split("heldout")
    fitting = np.flatnonzero(rows.num_frames >= min_frames)
    if len(fitting) > count:
        fitting = fitting[np.linspace(0, len(fitting) - 1, count).round().astype(int)]
    return rows.take(fitting)
