"""The clip table: one row per clip (a scene of a source video), stored as Parquet.

The file's metadata declares ``kinetoscope.schema_version``. Equal rows give equal bytes, since the
table's digest decides what is computed again downstream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kinetoscope.core.errors import CorruptError, UserError

if TYPE_CHECKING:
    from kinetoscope.data.sources.videos import PreparedVideo, Videos

SCHEMA_VERSION = 2
"""1 held absolute paths of videos."""
_VERSION_KEY = b"kinetoscope.schema_version"

Split = Literal["train", "heldout"]


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One clip: ``num_frames`` frames of a source video, from ``start_frame`` on.

    Attributes:
        clip_id: stable name of the clip, unique in the table.
        video: name of the source video below the place of videos, with ``/``.
        start_frame: first frame of the clip, counted in decoded frames of the source from 0.
        fps: frames per second of the source, by the times of its frames.
        height: of the frames as they are shown, in pixels; likewise ``width``.
        caption: raw caption.
        text: what the models are conditioned on: the caption with its scores.
        motion_score: mean optical flow (``data/prepare/scorers/motion.py``).
        quality_score: technical quality in [0, 1] (``data/prepare/scorers/quality.py``).
        group: number of the near-duplicate group; a group never spans both splits.
        digest: of the source video's bytes.
    """

    clip_id: str
    video: str
    start_frame: int
    num_frames: int
    fps: float
    height: int
    width: int
    caption: str
    text: str
    motion_score: float
    quality_score: float
    split: Split
    group: int
    digest: str


_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "Split": pa.string()}
_SCHEMA = pa.schema(
    [pa.field(field.name, _TYPES[str(field.type)], nullable=False) for field in fields(ClipRow)]
).with_metadata({_VERSION_KEY: str(SCHEMA_VERSION)})


@dataclass(frozen=True, slots=True)
class ClipTable(Sequence[ClipRow]):
    """The columns of a clip table; also a sequence of its rows.

    ``videos``, where their frames are read, is no column: videos can be moved. None where no frame
    is to be read.
    """

    clip_id: list[str]
    video: list[str]
    start_frame: npt.NDArray[np.int64]
    num_frames: npt.NDArray[np.int64]
    fps: npt.NDArray[np.float64]
    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    caption: list[str]
    text: list[str]
    motion_score: npt.NDArray[np.float64]
    quality_score: npt.NDArray[np.float64]
    split_name: list[str]
    group: npt.NDArray[np.int64]
    digest: list[str]
    videos: Videos | None = None

    @classmethod
    def from_rows(cls, rows: Iterable[ClipRow], videos: Videos | None = None) -> ClipTable:
        """Gather rows, in their order."""
        return _columns(_to_arrow(rows), videos)

    def source_video(self, index: int) -> PreparedVideo:
        """Return the source video of a row."""
        if self.videos is None:
            raise ValueError("this table was opened without its videos")
        return self.videos.video(self.video[index], self.digest[index])

    def __len__(self) -> int:
        return len(self.clip_id)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.row(i) for i in range(*index.indices(len(self)))]
        return self.row(range(len(self))[index])

    def __iter__(self) -> Iterator[ClipRow]:
        return (self.row(i) for i in range(len(self)))

    def row(self, index: int) -> ClipRow:
        """Return one row as plain Python values."""
        values = {}
        for field in fields(ClipRow):
            value = getattr(self, _attribute(field.name))[index]
            values[field.name] = value.item() if isinstance(value, np.generic) else value
        return ClipRow(**values)

    def take(self, indices: npt.ArrayLike) -> ClipTable:
        """Return the rows with these numbers, in the given order."""
        index = np.asarray(indices, dtype=np.int64)
        columns: dict[str, Any] = {}
        for name in map(_attribute, _SCHEMA.names):
            column = getattr(self, name)
            columns[name] = (
                column[index] if isinstance(column, np.ndarray) else [column[i] for i in index]
            )
        return ClipTable(**columns, videos=self.videos)

    def split(self, name: Split) -> ClipTable:
        """Return the rows of one split, in the table's order."""
        return self.take([i for i, split in enumerate(self.split_name) if split == name])


def write_clip_table(path: Path, rows: Iterable[ClipRow]) -> None:
    """Write a clip table; equal rows give equal bytes.

    Raises:
        ValueError: two rows have the same ``clip_id``.
    """
    table = _to_arrow(rows)
    ids = table.column("clip_id").to_pylist()
    if len(set(ids)) != len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise ValueError(f"clip ids must be unique; these are not: {twice[:5]}")
    pq.write_table(table, path, compression="zstd", version="2.6", write_statistics=False)


def read_clip_table(data: bytes, name: str, videos: Videos | None = None) -> ClipTable:
    """Read a clip table.

    Args:
        data: content of the file.
        name: of the file or object, for errors.
        videos: where frames are read; None where none are.

    Raises:
        UserError: the table has another schema than this version reads.
        CorruptError: it is no clip table.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(f"{name} is no readable Parquet file: {error}") from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"")
    if not version.isdigit():
        raise CorruptError(f"{name} declares no kinetoscope.schema_version: not a clip table")
    if int(version) != SCHEMA_VERSION:
        newer = int(version) > SCHEMA_VERSION
        raise UserError(
            f"{name} has clip table schema {int(version)}; this version reads {SCHEMA_VERSION}",
            hint="update Kinetoscope" if newer else "run prepare_data again",
        )
    missing = [column for column in _SCHEMA.names if column not in table.schema.names]
    if missing:
        raise CorruptError(f"{name} lacks the columns {missing}")
    return _columns(table.select(_SCHEMA.names).cast(_SCHEMA), videos)


def _attribute(name: str) -> str:
    return "split_name" if name == "split" else name


def _to_arrow(rows: Iterable[ClipRow]) -> pa.Table:
    listed = list(rows)
    columns = {name: [getattr(row, name) for row in listed] for name in _SCHEMA.names}
    return pa.table(columns, schema=_SCHEMA)


def _columns(table: pa.Table, videos: Videos | None) -> ClipTable:
    columns: dict[str, Any] = {}
    for field in table.schema:
        column = table.column(field.name)
        text = pa.types.is_string(field.type)
        columns[_attribute(field.name)] = column.to_pylist() if text else column.to_numpy()
    return ClipTable(**columns, videos=videos)
