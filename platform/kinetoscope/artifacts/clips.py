"""The clips that prepare_data committed."""

from __future__ import annotations

from kinetoscope.artifacts.files import read_artifact
from kinetoscope.core.errors import UserError
from kinetoscope.data.clip_table import ClipTable, read_clip_table
from kinetoscope.data.sources.cache import open_cache
from kinetoscope.data.sources.index import read_index
from kinetoscope.data.sources.place import open_place
from kinetoscope.data.sources.videos import Videos
from kinetoscope.steps.contract import StepResult, make_again


def open_clips(prepared: StepResult, place: str | None = None) -> ClipTable:
    """Return the clip table.

    Args:
        prepared: result of ``prepare_data``.
        place: of the source videos (`sources.place`); None where no pixels are read. Every block of
            a video that is read is compared with what it was when it was prepared.

    Raises:
        CorruptError: the table is not what the step committed.
        UserError: another version of Kinetoscope wrote it.
    """
    ((name, data),) = read_artifact(prepared, "clips").items()
    return read_clip_table(data, name, None if place is None else _open_videos(prepared, place))


def _open_videos(prepared: StepResult, place: str) -> Videos:
    if "videos" not in prepared.artifacts:
        raise UserError(
            "prepare_data of this run was done by an earlier version, which did not note what the "
            "videos were",
            hint=make_again(prepared.step),
        )
    ((name, data),) = read_artifact(prepared, "videos").items()
    return Videos(open_place(place), read_index(data, name), open_cache())
