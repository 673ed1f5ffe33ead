"""What holds for every object store: on a directory, on a real S3 server and in memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny.memory_store import MemoryStore

from kinetoscope.core.errors import NotFoundError, StorageError
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import as_local, open_store
from kinetoscope.storage.s3.conditional import supports_conditional_writes
from kinetoscope.storage.store import ObjectStat, ObjectStore

MIB = 1 << 20

StoreMaker = Callable[[], ObjectStore]


@pytest.fixture(params=["directory", "s3", "s3 without a prefix", "memory"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    if request.param == "directory":
        return open_store((tmp_path / "a store").as_uri())
    if request.param == "memory":
        return MemoryStore("memory:///a%20store")
    minio = request.getfixturevalue("minio")
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    if request.param == "s3":
        return open_store(f"s3://{minio.bucket}/a%20team/{uuid4().hex}")
    name = f"bucket-{uuid4().hex}"
    (minio.folder / "data" / name).mkdir()
    return open_store(f"s3://{name}")


def test_what_is_put_is_read_listed_and_deleted(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    store.put_bytes("a/b.txt", b"abc")
    store.put_file("a/c/d.bin", tmp_path / "file")
    store.put_bytes("ab", b"")
    store.put_bytes("a-b/c", b"x")
    assert store.get_bytes("a/b.txt") == b"abc"
    assert store.list("a") == [ObjectStat("a/b.txt", 3), ObjectStat("a/c/d.bin", 5)]
    assert [stat.key for stat in store.list()] == ["a-b/c", "a/b.txt", "a/c/d.bin", "ab"]
    assert store.list("a/b.txt") == [ObjectStat("a/b.txt", 3)]
    assert store.list("nothing") == []
    assert store.stat("a") is None
    assert store.stat("ab") == ObjectStat("ab", 0)
    store.get_file("a/c/d.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"12345"
    store.delete_prefix("a")
    store.delete_prefix("nothing")
    store.delete("never there")
    store.delete("ab")
    assert [stat.key for stat in store.list()] == ["a-b/c"]


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1, 21 * MIB + 5])
def test_files_of_every_size_come_back_whole(store: ObjectStore, tmp_path: Path, size: int) -> None:
    data = _noise(size)
    (tmp_path / "file").write_bytes(data)
    store.put_file("k", tmp_path / "file")
    assert store.stat("k") == ObjectStat("k", size)
    assert store.digest("k") == f"sha256:{hashlib.sha256(data).hexdigest()}"
    store.get_file("k", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    assert store.get_bytes("k") == data
    store.put_bytes("k", data[::-1])
    assert store.get_bytes("k") == data[::-1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["copy", "file"]


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 10, b"0123456789"),
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (9, 1, b"9"),
        (7, 100, b"789"),
        (0, 1 << 40, b"0123456789"),
        (10, 1, b""),
        (1 << 40, 1 << 40, b""),
        (4, 0, b""),
        (0, 0, b""),
        (99, 0, b""),
    ],
)
def test_a_range_is_what_the_object_has_of_it(
    store: ObjectStore, offset: int, length: int, expected: bytes
) -> None:
    store.put_bytes("a/k", b"0123456789")
    assert store.get_range("a/k", offset, length) == expected


def test_no_range_of_an_empty_object_holds_anything(store: ObjectStore) -> None:
    store.put_bytes("k", b"")
    assert [store.get_range("k", *place) for place in ((0, 0), (0, 9), (5, 5))] == [b"", b"", b""]


def test_a_large_range_comes_whole(store: ObjectStore) -> None:
    data = _noise(21 * MIB + 5)
    store.put_bytes("k", data)
    assert store.get_range("k", 3, 20 * MIB) == data[3 : 20 * MIB + 3]
    assert store.get_range("k", 21 * MIB, 9 * MIB) == data[21 * MIB :]


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (-5, 0)])
def test_a_range_has_no_negative_numbers(store: ObjectStore, offset: int, length: int) -> None:
    store.put_bytes("k", b"abc")
    with pytest.raises(ValueError, match=f"offset={offset} and length={length}"):
        store.get_range("k", offset, length)


@pytest.mark.parametrize(
    "key",
    [
        "with space",
        "plus+and%25",
        "q?x=1&y=#z",
        "\u00fc/\u4e2d\u6587/\U0001f3a5.mp4",
        "a:b;c,d@e",
        "~'()*!",
    ],
)
def test_keys_hold_any_text(store: ObjectStore, key: str) -> None:
    store.put_bytes(key, b"x")
    assert store.get_bytes(key) == b"x"
    assert store.list(key) == [ObjectStat(key, 1)]
    assert store.list() == [ObjectStat(key, 1)]
    inner = _below(store, f"{key}/inner")
    assert inner.uri == join_uri(store.uri, f"{key}/inner")
    assert store.put_bytes_if_absent(key, b"y") is False
    store.delete_prefix(key)
    assert store.list() == []


def test_thousands_of_objects_are_listed_and_deleted(store: ObjectStore) -> None:
    names = [f"many/{number:04d}" for number in range(1200)]

    def put(part: list[str]) -> None:
        for name in part:
            store.put_bytes(name, b"x")

    threads = [threading.Thread(target=put, args=(names[first::4],)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [stat.key for stat in store.list("many")] == names
    assert [stat.key for stat in store.list("many/0007")] == ["many/0007"]
    assert store.list("man") == []
    store.delete_prefix("many")
    assert store.list() == []


def test_a_uri_below_a_store_is_a_store(store: ObjectStore) -> None:
    store.put_bytes("a/with space/b", b"x")
    inner = _below(store, "a/with space")
    assert inner.get_bytes("b") == b"x"
    assert inner.list() == [ObjectStat("b", 1)]
    if not isinstance(store, MemoryStore):  # which no URI opens
        assert open_store(f"{inner.uri}/").list() == [ObjectStat("b", 1)]


def test_a_missing_object_is_named(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    for read in (
        store.get_bytes,
        store.digest,
        lambda key: store.get_range(key, 0, 1),
        lambda key: store.get_range(key, 5, 0),
        lambda key: store.get_file(key, tmp_path / "old"),
    ):
        with pytest.raises(NotFoundError, match="'x/y'"):
            read("x/y")
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize("key", ["", "/a", "../a", "a/../b", "a//b", "a/", "a\\b", "a\nb", "./a"])
def test_a_key_cannot_leave_the_store(store: ObjectStore, key: str, tmp_path: Path) -> None:
    for use in (store.get_bytes, store.stat, store.local_path, store.delete, store.delete_prefix):
        with pytest.raises(StorageError, match="bad object key"):
            use(key)
    for length in (0, 1):
        with pytest.raises(StorageError, match="bad object key"):
            store.get_range(key, 0, length)
    with pytest.raises(StorageError, match="bad object key"):
        store.put_bytes_if_absent(key, b"")
    with pytest.raises(StorageError, match="bad object key"):
        store.get_file(key, tmp_path / "file")


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
    assert [stat.key for stat in store.list()] == ["lease"]


def test_conditional_writes_are_supported_and_leave_nothing(store: ObjectStore) -> None:
    assert supports_conditional_writes(store)
    assert store.list() == []


def test_a_file_that_is_missing_leaves_the_old_object(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("k", b"old")
    with pytest.raises(FileNotFoundError):
        store.put_file("k", tmp_path / "missing")
    assert store.get_bytes("k") == b"old"


def test_a_local_copy_has_the_content(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("a/b", b"x")
    (tmp_path / "scratch").mkdir()
    assert as_local(store, "a/b", tmp_path / "scratch").read_bytes() == b"x"


_KEYS = st.sampled_from(["a/b", "a/c", "a/c-1", "a-1/b", "ab", "b/\u00e4 +"])
_PREFIXES = st.sampled_from(["a", "a/c", "a-1", "ab", "b", "nothing"])
_OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["put_bytes", "put_bytes_if_absent"]), _KEYS, st.binary(max_size=4)),
    st.tuples(st.sampled_from(["get_bytes", "stat", "delete", "digest"]), _KEYS),
    st.tuples(st.just("get_range"), _KEYS, st.integers(0, 6), st.integers(0, 6)),
    st.tuples(st.sampled_from(["list", "delete_prefix"]), _PREFIXES),
    st.tuples(st.just("list")),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=st.lists(_OPERATIONS, max_size=25))
@pytest.mark.parametrize("other", ["s3", "memory"])
def test_all_stores_do_the_same(
    operations: list[tuple[Any, ...]],
    other: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if other == "s3":
        minio = request.getfixturevalue("minio")
        for name, value in minio.environment().items():
            monkeypatch.setenv(name, value)
        second = open_store(f"s3://{minio.bucket}/{uuid4().hex}")
    else:
        second = MemoryStore("memory:///")
    first = open_store((tmp_path / uuid4().hex).as_uri())
    for name, *args in operations:
        assert _outcome(first, name, args) == _outcome(second, name, args)
    assert first.list() == second.list()


def _below(store: ObjectStore, key: str) -> ObjectStore:
    if isinstance(store, MemoryStore):
        return store.below(key)
    return open_store(join_uri(store.uri, key))


def _outcome(store: ObjectStore, name: str, args: list[Any]) -> Any:
    try:
        return getattr(store, name)(*args)
    except NotFoundError:
        return NotFoundError


def _noise(size: int) -> bytes:
    return hashlib.shake_128(b"noise").digest(size)
