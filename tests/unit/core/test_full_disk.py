"""A full disk is recognised in what the libraries really raise."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny.small_disk import small_disk

from kinetoscope.core.errors import ExitCode
from kinetoscope.core.full_disk import disk_full_error


def _write_bytes(folder: Path) -> None:
    (folder / "a").write_bytes(b"x" * (4 << 20))


def _write_weights(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1 << 20)}, folder / "a")


def _write_table(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": list(range(1 << 19))}), folder / "a", compression=None)


def _write_row(folder: Path) -> None:
    with sqlite3.connect(":memory:") as database:
        database.execute("PRAGMA max_page_count = 2")
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (zeroblob(100000))")


@pytest.mark.parametrize("write", [_write_bytes, _write_weights, _write_table, _write_row])
def test_a_full_disk_says_where_how_full_and_what_to_do(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(Exception, match=r"(?i)no space|full") as caught:
            write(disk)
        told = disk_full_error(caught.value)
    assert told is not None
    assert told.exit_code == ExitCode.DISK_FULL
    assert re.match(r"the disk of /\S+ is full: .* of .* are free", told.message)
    assert "kino rm old runs" in (told.hint or "")


def test_the_folder_is_that_of_the_file_that_was_written(tmp_path: Path) -> None:
    copied = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/etc/passwd", None, str(tmp_path))
    error = RuntimeError("can't save")
    error.__cause__ = copied
    told = disk_full_error(error)
    assert told is not None
    assert f"the disk of {tmp_path} is full" in told.message


def test_other_errors_are_not_a_full_disk() -> None:
    assert disk_full_error(OSError(errno.EACCES, "Permission denied")) is None
    assert disk_full_error(ValueError("seven")) is None
