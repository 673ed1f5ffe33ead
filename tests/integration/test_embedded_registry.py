"""What sqlite reads of the embedded registry is what MLflow says; nothing is changed by it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tiny.snapshots import snapshot

from kinetoscope.core.errors import CorruptError, NotFoundError
from kinetoscope.storage.directory import DirectoryStore
from kinetoscope.tracking.embedded import EmbeddedRegistry, known_versions
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.versions import NewVersion

# Of MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

# Writes more than fits into sqlite's cache, so that it is in the file when the process is killed.
KILLED_WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
connection.execute("DELETE FROM registered_model_aliases")
connection.execute("CREATE TABLE ballast (text)")
for _ in range(3000):
    connection.execute("INSERT INTO ballast VALUES (?)", ("x" * 500,))
os.kill(os.getpid(), 9)
"""


def new(name: str, number: int, **changes: object) -> NewVersion:
    values: dict[str, object] = {
        "name": name,
        "bundle_key": f"models/{name}/{number:016x}",
        "bundle_digest": f"sha256:{number:064x}",
        "tags": {"kinetoscope.dev/run": f"r{number}", "note": "a 'b' %\n\u00e9"},
        "scores": {"adherence.all": 0.1 * number},
    }
    return NewVersion.model_validate(values | changes)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelRegistry]:
    """Return a registry with models, versions, aliases, and gaps that MLflow's client left."""
    folder = tmp_path_factory.mktemp("registry") / "a folder, 50% full"
    folder.mkdir()
    path = folder / "mlflow.db"
    quoted = str(path).replace("%", "%25")
    registry, store = ModelRegistry(f"sqlite+pysqlite:///{quoted}"), DirectoryStore(folder / "o")
    for name, numbers in {"toy": range(1, 12), "b_model": range(3), "Alone": range(1)}.items():
        for number in numbers:
            registry.register_version(new(name, number), store)
    client = registry._client
    client.set_registered_model_alias("toy", "champion", "2")
    client.set_registered_model_alias("toy", "mine", "2")
    client.delete_model_version("toy", "4")
    client.create_registered_model("empty")
    client.create_registered_model("gone")
    client.delete_registered_model("gone")
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "file:///elsewhere")
    return path, registry


def copy_of(path: Path, folder: Path) -> tuple[Path, str]:
    copy = folder / "mlflow.db"
    shutil.copy(path, copy)
    return copy, f"sqlite:///{copy}"


def test_it_says_what_mlflow_says(written: tuple[Path, ModelRegistry], tmp_path: Path) -> None:
    _, registry = written
    known = known_versions(registry._uri)
    assert isinstance(known, EmbeddedRegistry)
    assert known.list_models() == registry.list_models()
    assert len(known.list_models()) == 15
    for ref in ("toy", "toy/2", "toy@mine", "toy@candidate", "b_model", "foreign/1"):
        assert known.get_version(ref) == registry.get_version(ref)
    for ref in ("nope", "empty", "gone", "toy/4", "toy/99", "toy@nobody", "toy/x", "@", ""):
        errors = []
        for one in (known, registry):
            with pytest.raises(Exception) as raised:  # noqa: PT011 - compared below
                one.get_version(ref)
            errors.append((type(raised.value), str(raised.value)))
        assert errors[0] == errors[1]


def test_reading_leaves_nothing_behind(written: tuple[Path, ModelRegistry], tmp_path: Path) -> None:
    _, uri = copy_of(written[0], tmp_path)
    before = snapshot(tmp_path)
    known_versions(uri).list_models()
    assert snapshot(tmp_path) == before

    absent = tmp_path / "absent" / "mlflow.db"
    assert known_versions(f"sqlite:///{absent}").list_models() == []
    with pytest.raises(NotFoundError, match="no model named 'toy'"):
        known_versions(f"sqlite:///{absent}").get_version("toy")
    assert snapshot(tmp_path) == before


def test_reading_a_database_with_a_write_ahead_log_leaves_no_log(
    written: tuple[Path, ModelRegistry], tmp_path: Path
) -> None:
    path, uri = copy_of(written[0], tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    before = snapshot(tmp_path)
    assert len(known_versions(uri).list_models()) == 15
    assert snapshot(tmp_path) == before
    with closing(sqlite3.connect(path)) as writer, writer:
        writer.execute("DELETE FROM registered_model_aliases WHERE alias = 'mine'")
        writer.commit()
        assert known_versions(uri).get_version("toy").aliases == ("champion",)


def test_what_a_killed_process_had_half_written_is_not_told(
    written: tuple[Path, ModelRegistry], tmp_path: Path
) -> None:
    path, uri = copy_of(written[0], tmp_path)
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False)
    assert path.with_name("mlflow.db-journal").exists()
    assert known_versions(uri).get_version("toy").aliases == ("champion", "mine")


def test_tables_that_are_not_known_are_left_to_mlflow(
    written: tuple[Path, ModelRegistry], tmp_path: Path
) -> None:
    path, uri = copy_of(written[0], tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE registered_model_aliases RENAME COLUMN alias TO nickname")
    with pytest.raises(Exception, match="registered_model_aliases"):  # MLflow doesn't know it, too
        known_versions(uri).list_models()


def test_a_fresh_file_has_no_models_and_a_damaged_one_is_told(
    written: tuple[Path, ModelRegistry], tmp_path: Path
) -> None:
    path, uri = copy_of(written[0], tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptError, match="is damaged"):
        known_versions(uri)
    path.write_bytes(b"")
    assert known_versions(uri).list_models() == []
