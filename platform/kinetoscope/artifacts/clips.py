"""The clips that prepare_data committed."""

from __future__ import annotations

from pathlib import Path

from kinetoscope.artifacts.files import read_artifact
from kinetoscope.data.clip_table import ClipTable, read_clip_table
from kinetoscope.steps.contract import StepResult


def open_clips(prepared: StepResult, videos: Path) -> ClipTable:
    """Return the clip table.

    Args:
        prepared: result of ``prepare_data``.
        videos: folder of the source videos; it need not exist where no pixels are read.

    Raises:
        CorruptError: the table is not what the step committed.
        UserError: another version of Kinetoscope wrote it.
    """
    ((name, data),) = read_artifact(prepared, "clips").items()
    return read_clip_table(data, name, videos)
