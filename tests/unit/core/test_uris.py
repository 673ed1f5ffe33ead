from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from kinetoscope.core.settings import Workspace
from kinetoscope.core.uris import file_path, sqlite_path, sqlite_uri
from kinetoscope.storage.open import open_store

NAMES = [
    "plain",
    "with space",
    "\u00fcml\u00e4ut \u4e2d\u6587",
    "100%",
    "a%2Fb",
    "%252F",
    "what?is=this&uri=true",
    "c#sharp",
    "a;b@c:d,e+f",
    'quote\'s "and" $HOME `x`',
    "back\\slash",
    "line\nbreak",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_comes_back_from_its_uris(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "file"
    assert file_path(path.as_uri()) == path
    assert sqlite_path(sqlite_uri(path)) == path


@pytest.mark.parametrize("name", NAMES)
def test_sqlalchemy_finds_the_database_just_there(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    engine = create_engine(Workspace(root).tracking_uri, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (a)"))
    database = sqlite3.connect(root / "mlflow.db")
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_store_s_uri_opens_the_same_folder(tmp_path: Path, name: str) -> None:
    store = open_store(Workspace(tmp_path / name).store_uri)
    store.put_bytes("k", b"x")
    assert (tmp_path / name / "objects" / "k").read_bytes() == b"x"
    assert open_store(store.uri).get_bytes("k") == b"x"


def test_a_path_that_is_no_text_comes_back() -> None:
    path = Path(os.fsdecode(b"/a\xff/b"))
    assert file_path(path.as_uri()) == path


@pytest.mark.parametrize(
    "uri",
    ["/a", "s3://a/b", "file://host/a", "file:a/b", "file:///a?b=c", "file:///a#b", "http:/a"],
)
def test_what_is_no_local_file_has_no_path(uri: str) -> None:
    assert file_path(uri) is None


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///b.db", "b.db"),
        ("sqlite:////a%20b/c#d.db?timeout=9", "/a b/c#d.db"),
        ("sqlite+pysqlite:////a/b.db", "/a/b.db"),
        ("sqlite://", None),
        ("http://host/a.db", None),
        ("postgresql+psycopg://host/sqlite:///a", None),
    ],
)
def test_the_file_of_a_database_is_the_one_that_its_uri_names(uri: str, path: str | None) -> None:
    assert sqlite_path(uri) == (path and Path(path))
