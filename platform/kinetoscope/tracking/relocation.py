"""Locations in the embedded MLflow, moved along with their workspace.

MLflow keeps absolute URIs. In a workspace that was moved or copied they name the old place: what is
logged would be written there, and read from there.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from kinetoscope.core.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_BUSY_SECONDS = 60.0

_log = logging.getLogger(__name__)


def relocate(database: Path, experiment: str, artifacts: Path) -> None:
    """Let what a workspace's database says lie in the workspace lie in it where it is now.

    The experiment's location tells where it was. Nothing is changed when that is right, or is no
    folder of a workspace at all.

    Args:
        database: the workspace's sqlite file, with MLflow's tables; nobody else may change it.
        experiment: name of the experiment whose artifacts the workspace holds.
        artifacts: the folder of artifacts in the workspace.

    Raises:
        StorageError: the database can't be changed.
    """
    new = artifacts.parent.as_uri()
    try:
        with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection, connection:
            old = _old_root(connection, experiment, artifacts.name)
            if old is not None and old != new:
                _log.info(
                    "the workspace was moved from %s to %s: so is MLflow's database", old, new
                )
                for table, column in _COLUMNS:
                    _move(connection, table, column, f"{old}/", f"{new}/")
    except sqlite3.Error as error:
        raise StorageError(
            f"the locations in {database} can't be changed to {new}: {error}",
            hint="the workspace was moved or copied; may you write to the file and its folder?",
        ) from error


def _old_root(connection: sqlite3.Connection, experiment: str, folder: str) -> str | None:
    row = connection.execute(
        "SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)
    ).fetchone()
    root, _, name = str(row[0] if row else "").rpartition("/")
    return root if root.startswith("file:") and name == folder else None


def _move(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    # Compared as it is: LIKE would take a _ or % in a folder's name for any character.
    connection.execute(
        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "  # noqa: S608
        f"WHERE substr({column}, 1, length(:old)) = :old",
        {"old": old, "new": new},
    )
