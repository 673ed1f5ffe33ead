"""The registry's database, as MLflow itself makes it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kinetoscope.tracking.database_check import examine_database, known_revisions


def _set_version(path: Path, version: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()


def test_mlflow_s_own_database_is_fit_and_stays_as_it_was(database: Path) -> None:
    before = database.read_bytes()
    finding = examine_database(database)
    assert finding.state == "ok", finding
    assert database.read_bytes() == before


def test_the_newest_revision_is_the_one_that_mlflow_writes(database: Path) -> None:
    connection = sqlite3.connect(database)
    written = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    connection.close()
    assert known_revisions()[-1] == written
    assert len(known_revisions()) > 50


def test_no_database_is_fit_and_none_is_made(tmp_path: Path) -> None:
    assert examine_database(tmp_path / "mlflow.db").state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_is_fit(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "mlflow.db").close()
    (tmp_path / "mlflow.db").touch()
    assert "empty" in examine_database(tmp_path / "mlflow.db").found


def test_an_older_schema_names_the_upgrade(database: Path) -> None:
    _set_version(database, known_revisions()[0])
    finding = examine_database(database)
    assert finding.state == "bad"
    assert "older" in finding.found
    assert f"mlflow db upgrade sqlite+pysqlite:///{database}" in finding.hint


def test_a_schema_of_a_newer_mlflow_is_told(database: Path) -> None:
    _set_version(database, "ffffffffffff")
    finding = examine_database(database)
    assert finding.state == "bad"
    assert "does not know" in finding.found


def test_a_locked_database_names_who_may_hold_it(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetoscope.tracking.database_check._BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    finding = examine_database(database)
    holder.close()
    assert finding.state == "bad"
    assert "locked" in finding.found
    assert "another process" in finding.hint


@pytest.mark.parametrize("what", ["text", "other"])
def test_what_is_not_mlflow_s_database_is_bad(tmp_path: Path, what: str) -> None:
    path = tmp_path / "mlflow.db"
    if what == "text":
        path.write_text("no database at all " * 100)
    else:
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("CREATE TABLE mine (a)")
        connection.close()
    assert examine_database(path).state == "bad"
