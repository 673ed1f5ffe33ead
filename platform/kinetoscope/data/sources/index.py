"""What prepare_data knows of the clips' videos: one row per content, stored as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kinetoscope.core.errors import CorruptError
from kinetoscope.data.sources.blocks import BLOCK_BYTES, BlockDigests
from kinetoscope.data.sources.even_frames import EvenFrames
from kinetoscope.data.sources.frame_times import FrameTimes

SCHEMA_VERSION = 2
"""1 knew no even frames."""
_VERSION_KEY = b"kinetoscope.video_index_version"
_BLOCK_KEY = b"kinetoscope.block_bytes"

_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("blocks", pa.large_binary(), nullable=False),
        pa.field("first_time", pa.int64()),
        pa.field("distance_over", pa.int64()),
        pa.field("distance_under", pa.int64()),
        pa.field("times", pa.large_list(pa.int64())),
        pa.field("even_over", pa.int64()),
        pa.field("even_under", pa.int64()),
        pa.field("num_decoded", pa.int64()),
    ]
).with_metadata({_VERSION_KEY: str(SCHEMA_VERSION), _BLOCK_KEY: str(BLOCK_BYTES)})


@dataclass(frozen=True, slots=True)
class IndexedVideo:
    """A video's content, and where its frames are in time.

    Attributes:
        times: None where they can't be told.
        even: how decoded frames are taken at even times; None where each is one.
    """

    blocks: BlockDigests
    times: FrameTimes | None = None
    even: EvenFrames | None = None


class VideoIndex(Mapping[str, IndexedVideo]):
    """The videos of a clip table, by digest. Rows stay in columns until they are asked for."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()
        self._rows = {digest: row for row, digest in enumerate(table.column("digest").to_pylist())}

    def __getitem__(self, digest: str) -> IndexedVideo:
        row = self._rows[digest]
        value = {name: self._table.column(name)[row].as_py() for name in _SCHEMA.names}
        blocks = BlockDigests(value["size_bytes"], digest, value["blocks"])
        return IndexedVideo(blocks, _times(value), _even(value))

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def write_index(videos: Iterable[IndexedVideo]) -> bytes:
    """Return the content of an index; equal videos give equal bytes."""
    by_digest = {video.blocks.digest: video for video in videos}
    rows = [_row(by_digest[digest]) for digest in sorted(by_digest)]
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    pq.write_table(table, sink, compression="zstd", version="2.6", write_statistics=False)
    return bytes(sink.getvalue().to_pybytes())


def read_index(data: bytes, name: str) -> VideoIndex:
    """Read an index.

    Args:
        data: content of the file.
        name: of the file or object, for errors.

    Raises:
        CorruptError: it is no index of this version.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(f"{name} is no readable Parquet file: {error}") from error
    wanted = _SCHEMA.metadata
    found = table.schema.metadata or {}
    if any(found.get(key) != wanted[key] for key in wanted) or not table.schema.equals(_SCHEMA):
        raise CorruptError(f"{name} is no index of videos of version {SCHEMA_VERSION}")
    return VideoIndex(table)


def _times(value: dict[str, Any]) -> FrameTimes | None:
    if value["first_time"] is None:
        return None
    distance = (value["distance_over"], value["distance_under"])
    return FrameTimes(value["first_time"], distance, tuple(value["times"] or ()))


def _even(value: dict[str, Any]) -> EvenFrames | None:
    if value["num_decoded"] is None:
        return None
    return EvenFrames((value["even_over"], value["even_under"]), value["num_decoded"])


def _row(video: IndexedVideo) -> dict[str, object]:
    blocks, times, even = video.blocks, video.times, video.even
    return {
        "digest": blocks.digest,
        "size_bytes": blocks.size_bytes,
        "blocks": blocks.blocks,
        "first_time": times and times.first,
        "distance_over": times and times.distance[0],
        "distance_under": times and times.distance[1],
        "times": list(times.listed) if times else None,
        "even_over": even and even.distance[0],
        "even_under": even and even.distance[1],
        "num_decoded": even and even.num_decoded,
    }
