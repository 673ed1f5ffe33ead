"""What sqlite says of a database that it can't use, as errors that tell what to do."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from kinetoscope.core.errors import CorruptError, StorageError

if TYPE_CHECKING:
    from pathlib import Path

_DAMAGED = ("not a database", "malformed", "unsupported file format", "corrupt", "encoding")
# MLflow and SQLAlchemy wrap sqlite's words in the statement and its parameters.
_WRAPPED = re.compile(r"\(sqlite3\.(?:Database|Operational)Error\) (.+)")


def refuse_damaged(path: Path) -> None:
    """Look at a database before MLflow does, which tries again for two minutes.

    Args:
        path: the sqlite file; it need not exist.

    Raises:
        CorruptError: it is cut off, overwritten or no database.
    """
    if not path.exists():
        return
    # The URI form never creates a file.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        if _is_damage(str(error)):
            raise _damaged(str(error), path) from error


def database_error(error: sqlite3.Error, path: Path) -> StorageError:
    """Return the error for what sqlite said when a database was read."""
    words = str(error)
    if _is_damage(words):
        return _damaged(words, path)
    return StorageError(
        f"MLflow's database {path} can't be read: {words}",
        hint="does another process hold it, may you read the file? kino doctor examines it",
    )


def sqlite_error(text: str, path: Path | None) -> StorageError | None:
    """Return the error for what MLflow raised, or None where sqlite did not fail.

    Args:
        text: MLflow's message, with the statement.
        path: the database's file, where it is known.
    """
    found = _WRAPPED.search(text)
    if found is None:
        return None
    if _is_damage(found[1]):
        return _damaged(found[1], path)
    return StorageError(
        f"MLflow's database {path or ''} can't be used: {found[1]}",
        hint="is the disk full, may you write to the file and its folder?",
    )


def _is_damage(words: str) -> bool:
    """Tell whether sqlite speaks of a file that is broken, not of one that is locked or shut."""
    return any(text in words for text in _DAMAGED)


def _damaged(words: str, path: Path | None) -> CorruptError:
    return CorruptError(
        f"MLflow's database {path or ''} is damaged: {words}",
        hint="models and runs are safe in the object store: move the file away, then "
        "`kino models rebuild` makes a new one with all registered versions",
    )
