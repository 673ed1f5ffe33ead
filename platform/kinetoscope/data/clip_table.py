"""The clip table: one row per clip (a scene of a source video), stored as Parquet.

The file's metadata declares ``kinetoscope.schema_version``. Equal rows give equal bytes, since the
table's digest decides what is computed again downstream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

SCHEMA_VERSION = 3
"""1 held absolute paths of videos; 2 had a column for each of two scores, and the frames of a
variable rate as they were decoded."""
_VERSION_KEY = b"kinetoscope.schema_version"

Split = Literal["train", "heldout"]


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One clip: ``num_frames`` frames of a source video, from ``start_frame`` on, at even times.

    Attributes:
        clip_id: stable name of the clip, unique in the table.
        video: name of the source video below the place of videos, with ``/``.
        start_frame: first frame of the clip, counted from 0 in frames of the source at even times
            (``sources/even_frames.py``).
        fps: frames per second of the clip.
        height: of the frames as they are shown, in pixels; likewise ``width``.
        caption: raw caption.
        text: what the models are conditioned on: the caption with its scores.
        scores: what was measured, by name (``data/scorers``).
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
    scores: dict[str, float]
    split: Split
    group: int
    digest: str


_TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "Split": pa.string(),
    "dict[str, float]": pa.map_(pa.string(), pa.float64()),
}
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
    scores: dict[str, npt.NDArray[np.float64]]
    split_name: list[str]
    group: npt.NDArray[np.int64]
    digest: list[str]
    videos: Videos | None = None

    @classmethod
    def from_rows(cls, rows: Iterable[ClipRow], videos: Videos | None = None) -> ClipTable:
        """Gather rows, in their order."""
        return _columns(arrow_table(rows), videos)

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
        values: dict[str, Any] = {}
        for field in fields(ClipRow):
            column = getattr(self, _attribute(field.name))
            if isinstance(column, dict):
                values[field.name] = {name: float(part[index]) for name, part in column.items()}
            else:
                value = column[index]
                values[field.name] = value.item() if isinstance(value, np.generic) else value
        return ClipRow(**values)

    def take(self, indices: npt.ArrayLike) -> ClipTable:
        """Return the rows with these numbers, in the given order."""
        index = np.asarray(indices, dtype=np.int64)
        columns = {
            name: _taken(getattr(self, name), index) for name in map(_attribute, _SCHEMA.names)
        }
        return ClipTable(**columns, videos=self.videos)

    def split(self, name: Split) -> ClipTable:
        """Return the rows of one split, in the table's order."""
        return self.take([i for i, split in enumerate(self.split_name) if split == name])


def write_clip_table(path: Path, table: pa.Table) -> None:
    """Write a clip table; equal rows give equal bytes.

    Args:
        path: where the file is written.
        table: of `arrow_table` or `arrow_columns`.

    Raises:
        ValueError: two rows have the same ``clip_id``.
    """
    ids = table.column("clip_id")
    if len(ids.unique()) != len(ids):
        twice = [row["values"] for row in ids.value_counts().to_pylist() if row["counts"] > 1]
        raise ValueError(f"clip ids must be unique; these are not: {sorted(twice)[:5]}")
    pq.write_table(table, path, compression="zstd", version="2.6", write_statistics=False)


def arrow_table(rows: Iterable[ClipRow]) -> pa.Table:
    """Gather rows into a table, in their order."""
    listed = list(rows)
    columns = {name: [getattr(row, name) for row in listed] for name in _SCHEMA.names}
    columns["scores"] = [sorted(row.scores.items()) for row in listed]
    return pa.table(columns, schema=_SCHEMA)


def arrow_columns(columns: Any, scores: Mapping[str, npt.NDArray[np.float64]]) -> pa.Table:
    """Gather columns into a table.

    Args:
        columns: a table of polars with all columns but the scores.
        scores: columns by name.
    """
    names, count = sorted(scores), len(columns)
    values = np.empty((count, len(names)))
    for number, name in enumerate(names):
        values[:, number] = scores[name]
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * len(names))
    keys = pa.array(names * count, pa.string())
    mapped = pa.MapArray.from_arrays(offsets, keys, pa.array(values.ravel()))
    plain = columns.select([name for name in _SCHEMA.names if name != "scores"]).to_arrow()
    table = plain.append_column(pa.field("scores", mapped.type, nullable=False), mapped)
    return table.select(_SCHEMA.names).cast(_SCHEMA).combine_chunks()


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


def _taken(column: Any, index: npt.NDArray[np.int64]) -> Any:
    if isinstance(column, dict):
        return {name: part[index] for name, part in column.items()}
    return column[index] if isinstance(column, np.ndarray) else [column[i] for i in index]


def _columns(table: pa.Table, videos: Videos | None) -> ClipTable:
    columns: dict[str, Any] = {}
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_map(field.type):
            columns[field.name] = _scores(column.combine_chunks())
        else:
            text = pa.types.is_string(field.type)
            columns[_attribute(field.name)] = column.to_pylist() if text else column.to_numpy()
    return ClipTable(**columns, videos=videos)


def _scores(column: Any) -> dict[str, npt.NDArray[np.float64]]:
    """Return a column of maps as a column for each key; NaN where a row lacks it."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    column = pa.concat_arrays(chunks) if chunks else column
    offsets = column.offsets.to_numpy()
    row = np.repeat(np.arange(len(column)), np.diff(offsets))
    keys = column.keys.dictionary_encode()
    code, values = keys.indices.to_numpy(), column.items.to_numpy()
    scores = {}
    for number, name in enumerate(keys.dictionary.to_pylist()):
        scores[name] = np.full(len(column), np.nan)
        scores[name][row[code == number]] = values[code == number]
    return {name: scores[name] for name in sorted(scores)}
