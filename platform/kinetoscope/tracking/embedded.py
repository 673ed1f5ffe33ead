"""The registry in the embedded MLflow's database, read by sqlite: importing MLflow takes seconds.

What is told is what MLflow would tell. Nothing is created or changed, so that the registry of a
workspace that nobody may write to can be read.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from kinetoscope.core.mlflow_variables import mlflow_access
from kinetoscope.core.uris import sqlite_path
from kinetoscope.tracking.damage import database_error
from kinetoscope.tracking.references import CHAMPION, KnownVersions, choose, parse_ref
from kinetoscope.tracking.versions import ModelVersion, StoredVersion, to_version

if TYPE_CHECKING:
    from pathlib import Path

_BUSY_SECONDS = 60.0
# Byte of the header that says whether there is a write-ahead log: https://sqlite.org/fileformat.html
_WRITE_VERSION = 18
_WITH_LOG = b"\x02"
# MLflow keeps versions of before it could delete them.
_VERSIONS = """
    SELECT name, version, source, creation_time FROM model_versions
    WHERE coalesce(current_stage, '') != 'Deleted_Internal' ORDER BY name, version
"""
_TAGS = "SELECT name, version, key, value FROM model_version_tags"
_ALIASES = "SELECT name, alias, version FROM registered_model_aliases"


class EmbeddedRegistry:
    """All that a sqlite file says of models, at one moment.

    Args:
        models: the versions of each model, oldest first.
    """

    def __init__(self, models: dict[str, list[ModelVersion]]) -> None:
        self._models = models

    def list_models(self) -> list[ModelVersion]:
        """Return all versions of all models, by name, oldest first."""
        return [version for name in sorted(self._models) for version in self._models[name]]

    def get_version(self, ref: str, *, default_alias: str = CHAMPION) -> ModelVersion:
        """Return a version by reference; see ``KnownVersions``."""
        return choose(self._models.get(parse_ref(ref)[0]), ref, default_alias)


def known_versions(tracking_uri: str) -> KnownVersions:
    """Return what an MLflow store knows of models, for those who only read.

    MLflow itself is asked where the store is a server, or a file whose tables are others than ours.

    Raises:
        StorageError: the store can't be read, or no server answers; ``CorruptError`` where its
            file is damaged.
    """
    path = sqlite_path(tracking_uri)
    models = _read(path) if path is not None else None
    if models is not None:
        return EmbeddedRegistry(models)
    if tracking_uri.startswith(("http://", "https://")):
        from kinetoscope.tracking.server_check import refuse_unreachable

        refuse_unreachable(replace(mlflow_access(), uri=tracking_uri))
    from kinetoscope.tracking.registry import ModelRegistry

    return ModelRegistry(tracking_uri)


def _read(path: Path) -> dict[str, list[ModelVersion]] | None:
    """Return the versions of each model, or None where MLflow alone can read the file."""
    if not path.exists():
        return {}
    try:
        return _query(path, "mode=ro&immutable=1" if _is_still(path) else "mode=ro")
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            return None
        if "readonly" not in str(error) and "unable to open" not in str(error):
            raise database_error(error, path) from error
    except sqlite3.Error as error:
        raise database_error(error, path) from error
    # Who wrote last was killed: only one who may write can take back what was half written.
    try:
        return _query(path, "mode=rw")
    except sqlite3.Error as error:
        raise database_error(error, path) from error


def _is_still(path: Path) -> bool:
    """Tell whether a database with a write-ahead log has none now: nobody has it open.

    Who reads such a one makes the log, and leaves it, unless told that nothing will change.
    """
    with path.open("rb") as file:
        header = file.read(_WRITE_VERSION + 1)
    return header[_WRITE_VERSION:] == _WITH_LOG and not path.with_name(f"{path.name}-wal").exists()


def _query(path: Path, options: str) -> dict[str, list[ModelVersion]]:
    # The URI form never creates a file.
    uri = f"{path.absolute().as_uri()}?{options}"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN")  # what is read is of one moment
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return {}
        names = [name for (name,) in connection.execute("SELECT name FROM registered_models")]
        aliases: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for name, alias, number in connection.execute(_ALIASES):
            aliases[name][alias] = number
        tags: defaultdict[tuple[str, int], dict[str, str]] = defaultdict(dict)
        for name, number, key, value in connection.execute(_TAGS):
            tags[name, number][key] = value
        rows = connection.execute(_VERSIONS).fetchall()
    stored = [
        StoredVersion(name, number, source, created, tags[name, number])
        for name, number, source, created in rows
    ]
    found = {
        name: [to_version(version, aliases[name]) for version in versions]
        for name, versions in groupby(stored, key=lambda version: version.name)
    }
    return {name: found.get(name, []) for name in names}
