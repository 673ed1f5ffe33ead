"""Is the embedded MLflow database fit? Asked of sqlite: importing MLflow takes ten seconds."""

from __future__ import annotations

import re
import shlex
import sqlite3
from importlib.util import find_spec
from pathlib import Path

from kinetoscope.core.findings import Finding
from kinetoscope.core.uris import sqlite_uri

CHECK = "registry"

_BUSY_SECONDS = 5.0
_MIGRATIONS = Path("store", "db_migrations", "versions")
_REVISION = re.compile(r"""^(down_)?revision\s*(?::[^=]+)?=\s*["']([0-9a-f]+)["']""", re.MULTILINE)


def examine_database(path: Path) -> Finding:
    """Open the database, compare its schema with the installed MLflow's, take the write lock.

    Nothing is changed.

    Args:
        path: the sqlite file; it need not exist yet.
    """
    tried = f"opened {path}, read its schema version, began and rolled back a write"
    if not path.exists():
        return Finding(CHECK, "ok", f"looked for {path}", "none yet: the first run makes it")
    try:
        version = _open_and_lock(path)
    except sqlite3.Error as error:
        return Finding(CHECK, "bad", tried, f"{path}: {error}", _explain(str(error)))
    if version is None:
        return Finding(CHECK, "ok", tried, f"{path} is empty: the first run makes its tables")
    return _compare(path, version, known_revisions(), tried)


def known_revisions() -> list[str]:
    """Return the schema versions that the installed MLflow knows, the newest last.

    They are read out of its migration files; the list is empty where MLflow is not installed.
    """
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        return []
    before: set[str] = set()
    after: set[str] = set()
    for path in sorted((Path(spec.origin).parent / _MIGRATIONS).glob("*.py")):
        for down, revision in _REVISION.findall(path.read_text(encoding="utf-8")):
            (before if down else after).add(revision)
    heads = after - before
    return [*sorted(after - heads), *sorted(heads)]


def _open_and_lock(path: Path) -> str | None:
    # The URI form never creates a file.
    uri = f"{path.resolve().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
        version = None
        if ("alembic_version",) in names:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            version = str(row[0]) if row else ""
        elif names:
            raise sqlite3.DatabaseError("no alembic_version table: this is not MLflow's database")
        connection.execute("ROLLBACK")
    finally:
        connection.close()
    return version


def _compare(path: Path, version: str, known: list[str], tried: str) -> Finding:
    if not known:
        found = f"{path} has schema {version}; MLflow is not installed here"
        return Finding(CHECK, "bad", tried, found, "make setup, or pip install kinetoscope")
    if version == known[-1]:
        return Finding(CHECK, "ok", tried, f"{path} has the schema of the installed MLflow")
    if version in known:
        hint = f"copy the file, then: mlflow db upgrade {shlex.quote(sqlite_uri(path))}"
        found = f"{path} has schema {version}, older than the installed MLflow's {known[-1]}"
    else:
        hint = "install the MLflow that wrote it (make setup), or use another KINO_WORKSPACE"
        found = f"{path} has schema {version}, which the installed MLflow does not know"
    return Finding(CHECK, "bad", tried, found, hint)


def _explain(error: str) -> str:
    if "locked" in error or "busy" in error:
        return "another process holds it: look for a run that hangs (kino ls), or try again"
    if "readonly" in error or "unable to open" in error:
        return "give yourself the right to write to the file and its folder"
    return (
        "restore it from a copy, or move it away: the next run makes a new one, and kino models "
        "rebuild brings the models back"
    )
