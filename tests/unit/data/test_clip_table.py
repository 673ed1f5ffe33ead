from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny.clips import clip_row

from kinetoscope.core.errors import CorruptError, UserError
from kinetoscope.data.clip_table import (
    SCHEMA_VERSION,
    ClipRow,
    ClipTable,
    Split,
    arrow_table,
    read_clip_table,
    write_clip_table,
)


def make_row(number: int, split: Split = "train") -> ClipRow:
    return clip_row(
        number,
        clip_id=f"clip{number}",
        start_frame=3 * number,
        num_frames=17 + number,
        fps=29.97,
        width=48,
        caption="ein roter Kreis \u7ea2\u5706",
        text="a red circle. motion score: 1.0.",
        scores={"motion": 0.25, "quality": 0.5},
        split=split,
        digest="sha256:00",
    )


def read_back(path: Path) -> ClipTable:
    return read_clip_table(path.read_bytes(), str(path))


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [make_row(0), make_row(1, "heldout"), make_row(2)]
    write_clip_table(tmp_path / "clips.parquet", arrow_table(rows))
    table = read_back(tmp_path / "clips.parquet")
    assert list(table) == rows
    assert table[-1] == rows[2]
    assert table[1:] == rows[1:]
    assert table.num_frames.dtype == np.int64
    assert table.split("train").clip_id == ["clip0", "clip2"]
    assert table.split("heldout").row(0) == rows[1]


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_clip_table(tmp_path / "clips.parquet", arrow_table([]))
    table = read_back(tmp_path / "clips.parquet")
    assert len(table) == 0
    assert table.num_frames.dtype == np.int64
    assert len(table.split("train")) == 0


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    rows = [make_row(number) for number in range(50)]
    write_clip_table(tmp_path / "one.parquet", arrow_table(rows))
    write_clip_table(tmp_path / "two.parquet", arrow_table(list(rows)))
    write_clip_table(tmp_path / "other.parquet", arrow_table(rows[1:]))
    one = (tmp_path / "one.parquet").read_bytes()
    assert one == (tmp_path / "two.parquet").read_bytes()
    assert one != (tmp_path / "other.parquet").read_bytes()


def test_a_repeated_clip_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clip0"):
        write_clip_table(tmp_path / "clips.parquet", arrow_table([make_row(0), make_row(0)]))


def test_a_newer_schema_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "clips.parquet"
    write_clip_table(path, arrow_table([make_row(0)]))
    newer = {b"kinetoscope.schema_version": str(SCHEMA_VERSION + 1)}
    pq.write_table(pq.read_table(path).replace_schema_metadata(newer), path)
    with pytest.raises(UserError, match=rf"schema {SCHEMA_VERSION + 1}.*reads {SCHEMA_VERSION}"):
        read_back(path)


def test_unknown_columns_of_the_same_version_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "clips.parquet"
    write_clip_table(path, arrow_table([make_row(0)]))
    table = pq.read_table(path).append_column("extra", pa.array([1]))
    pq.write_table(table, path)
    assert list(read_back(path)) == [make_row(0)]


@pytest.mark.parametrize("content", [b"", b"no parquet at all"])
def test_a_file_that_is_no_parquet_is_corrupt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clips.parquet"
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=r"clips\.parquet"):
        read_back(path)


def test_other_parquet_files_are_no_clip_tables(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(CorruptError, match="schema_version"):
        read_back(path)


def test_take_keeps_the_given_order() -> None:
    table = ClipTable.from_rows([make_row(number) for number in range(4)])
    assert table.take([2, 0]).clip_id == ["clip2", "clip0"]
