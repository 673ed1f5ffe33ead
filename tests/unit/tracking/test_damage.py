"""What MLflow's database is told to be when sqlite can't use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetoscope.core.errors import CorruptError, StorageError
from kinetoscope.tracking.damage import refuse_damaged
from kinetoscope.tracking.database import call, connect


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_whole_and_an_absent_database_pass(database: Path, tmp_path: Path) -> None:
    before = database.read_bytes()
    refuse_damaged(database)
    refuse_damaged(tmp_path / "absent.db")
    assert database.read_bytes() == before
    assert not (tmp_path / "absent.db").exists()


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0, b"not a database"), (16, b"\xff\xff"), (28, b"\x7f\xff\xff\xff"), (4096, b"\xff" * 8192)],
    ids=["magic", "page size", "length", "schema"],
)
def test_a_damaged_database_is_refused_at_once_by_its_name(
    database: Path, offset: int, data: bytes
) -> None:
    overwrite(database, offset, data)
    with pytest.raises(CorruptError, match=f"{database} is damaged") as error:
        connect(f"sqlite:///{database}")
    assert "kino models rebuild" in str(error.value.hint)


def test_damage_that_shows_later_is_told_the_same_way(database: Path) -> None:
    client = connect(f"sqlite:///{database}")
    # A changed counter makes sqlite read its pages anew.
    overwrite(database, 24, b"\xff")
    overwrite(database, 4096, b"\xff" * (database.stat().st_size - 4096))
    with pytest.raises(CorruptError, match=f"{database} is damaged"):
        call(client.search_registered_models, max_results=1)


def test_a_database_that_may_not_be_written_says_so_without_sql(database: Path) -> None:
    overwrite(database, 18, b"\x03")  # as a later sqlite marks what this one may only read
    client = connect(f"sqlite:///{database}")
    with pytest.raises(StorageError, match=r"can't be used: attempt to write a readonly") as error:
        call(client.create_registered_model, "toy")
    assert not isinstance(error.value, CorruptError)
    assert "INSERT" not in error.value.message
