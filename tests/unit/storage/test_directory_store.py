from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kinetoscope.core.errors import ConfigError, NotFoundError, StorageError
from kinetoscope.storage.store import ObjectStat, ObjectStore, as_local, join_uri, open_store


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store((tmp_path / "a store").as_uri())


def test_what_is_put_is_read_listed_and_deleted(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    store.put_bytes("a/b.txt", b"abc")
    store.put_file("a/c/d.bin", tmp_path / "file")
    store.put_bytes("ab", b"")
    assert store.get_bytes("a/b.txt") == b"abc"
    assert store.list("a") == [ObjectStat("a/b.txt", 3), ObjectStat("a/c/d.bin", 5)]
    assert [stat.key for stat in store.list()] == ["a/b.txt", "a/c/d.bin", "ab"]
    assert store.list("a/b.txt") == [ObjectStat("a/b.txt", 3)]
    assert store.stat("a") is None
    store.get_file("a/c/d.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"12345"
    store.delete_prefix("a")
    store.delete("never there")
    assert [stat.key for stat in store.list()] == ["ab"]


def test_a_uri_below_a_store_is_a_store(store: ObjectStore) -> None:
    store.put_bytes("a/with space/b", b"x")
    inner = open_store(join_uri(store.uri, "a/with space"))
    assert inner.get_bytes("b") == b"x"


def test_a_missing_object_is_named(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="'x/y'"):
        store.get_bytes("x/y")
    with pytest.raises(NotFoundError, match="'x/y'"):
        store.get_file("x/y", tmp_path / "z")


@pytest.mark.parametrize("key", ["", "/a", "../a", "a/../b", "a//b", "a/", "a\\b", "a\0b", "./a"])
def test_a_key_cannot_leave_the_store(store: ObjectStore, key: str) -> None:
    with pytest.raises(StorageError, match="bad object key"):
        store.put_bytes(key, b"")


@pytest.mark.parametrize("uri", ["s4://bucket", "/plain/path", "file://host/x", "https://a/b"])
def test_an_unknown_kind_of_store_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="no object store for"):
        open_store(uri)


def test_one_of_many_creators_wins_and_its_object_is_whole(store: ObjectStore) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        if store.put_bytes_if_absent("lease", bytes([number]) * 10_000):
            won.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get_bytes("lease") == bytes(won) * 10_000


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
