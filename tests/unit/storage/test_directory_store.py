from __future__ import annotations

from pathlib import Path

import pytest

from kinetoscope.core.errors import ConfigError
from kinetoscope.storage.open import as_local, open_store
from kinetoscope.storage.store import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store((tmp_path / "a store").as_uri())


@pytest.mark.parametrize(
    "uri",
    [
        "s4://bucket",
        "/plain/path",
        "file://host/x",
        "https://a/b",
    ],
)
def test_an_unknown_kind_of_store_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="no object store for"):
        open_store(uri)


def test_a_failed_upload_leaves_the_old_object(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("k", b"old")
    with pytest.raises(FileNotFoundError):
        store.put_file("k", tmp_path / "missing")
    assert store.get_bytes("k") == b"old"
    path = store.local_path("k")
    assert path is not None
    assert list(path.parent.iterdir()) == [path]


def test_unfinished_writes_are_not_listed(store: ObjectStore) -> None:
    store.put_bytes("a/k", b"x")
    path = store.local_path("a/k")
    assert path is not None
    (path.parent / ".partial-killed").write_bytes(b"half")
    assert [stat.key for stat in store.list()] == ["a/k"]


def test_a_directory_store_gives_its_own_file(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("a", b"x")
    assert as_local(store, "a", tmp_path) == store.local_path("a")


def test_a_huge_length_takes_no_memory(store: ObjectStore) -> None:
    store.put_bytes("k", b"abc")
    assert store.get_range("k", 1, 1 << 60) == b"bc"
