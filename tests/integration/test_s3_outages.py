"""A real S3 server that is killed in the middle of transfers, and started again or not."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kinetoscope.core.errors import StorageError
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

MIB = 1 << 20
# How long a killed server stays away: a few rounds of backoff.
AWAY_SECONDS = 2.0


@pytest.fixture(scope="module")
def mortal(new_minio: Callable[..., Any]) -> Any:
    return new_minio()


@pytest.fixture
def server(mortal: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in mortal.environment().items():
        monkeypatch.setenv(name, value)
    mortal.start()
    yield mortal
    mortal.kill()


@pytest.fixture
def store(server: Any) -> ObjectStore:
    return open_store(f"s3://{server.bucket}/{uuid4().hex}")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    (tmp_path / "big").write_bytes(hashlib.shake_128(b"big").digest(160 * MIB))
    return tmp_path / "big"


def _in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def _wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def _uploaded_parts(server: Any) -> int:
    """Count the parts of unfinished uploads in the server's own folder."""
    return len(list((server.folder / "data" / ".minio.sys" / "multipart").rglob("part.*")))


def test_an_upload_outlives_the_server(server: Any, store: ObjectStore, big: Path) -> None:
    store.put_bytes("big", b"old")
    thread, failures = _in_thread(lambda: store.put_file("big", big))
    _wait_until(lambda: _uploaded_parts(server) >= 2)
    server.kill()
    assert thread.is_alive(), "too fast for this test"
    time.sleep(AWAY_SECONDS)
    assert thread.is_alive()
    server.start()
    # Until the new object is whole, the old one is there.
    assert len(store.get_bytes("big")) in (len(b"old"), big.stat().st_size)
    thread.join(60)
    assert not failures
    assert store.digest("big") == _digest(big)
    store.get_file("big", big.with_name("copy"))
    assert _digest(big.with_name("copy")) == _digest(big)


def test_a_download_outlives_the_server(server: Any, store: ObjectStore, big: Path) -> None:
    store.put_file("big", big)
    folder = big.parent / "down"
    folder.mkdir()
    (folder / "copy").write_bytes(b"old")
    thread, failures = _in_thread(lambda: store.get_file("big", folder / "copy"))
    _wait_until(lambda: any(path.stat().st_size > 9 * MIB for path in folder.glob(".partial-*")))
    server.kill()
    assert thread.is_alive(), "too fast for this test"
    time.sleep(AWAY_SECONDS)
    assert (folder / "copy").read_bytes() == b"old"
    server.start()
    thread.join(60)
    assert not failures
    assert _digest(folder / "copy") == _digest(big)
    assert len(list(folder.iterdir())) == 1


def test_many_small_objects_outlive_the_server(server: Any, store: ObjectStore) -> None:
    contents = {f"k/{number:03d}": os.urandom(64 << 10) for number in range(400)}
    done: list[str] = []

    def write() -> None:
        for key, data in contents.items():
            store.put_bytes(key, data)
            done.append(key)

    def read() -> None:
        while len(done) < len(contents):
            for key in done[-3:]:
                assert store.get_bytes(key) == contents[key]

    writer, writing = _in_thread(write)
    reader, reading = _in_thread(read)
    for share in (100, 200, 300):
        _wait_until(lambda share=share: len(done) >= share)  # type: ignore[misc]
        server.kill()
        time.sleep(AWAY_SECONDS / 2)
        server.start()
    writer.join(120)
    reader.join(120)
    assert not writing
    assert not reading
    assert {stat.key: stat.size_bytes for stat in store.list("k")} == dict.fromkeys(
        contents, 64 << 10
    )
    assert all(store.get_bytes(key) == data for key, data in contents.items())


def test_a_lease_has_one_holder_although_the_server_dies(server: Any, store: ObjectStore) -> None:
    won: dict[int, list[int]] = {}

    def compete(number: int) -> None:
        for race in range(60):
            if store.put_bytes_if_absent(f"lease-{race:02d}", bytes([number])):
                won.setdefault(race, []).append(number)

    racers = [_in_thread(lambda number=number: compete(number)) for number in range(4)]  # type: ignore[misc]
    for share in (10, 30):
        _wait_until(lambda share=share: len(won) >= share)  # type: ignore[misc]
        server.kill()
        time.sleep(AWAY_SECONDS / 2)
        server.start()
    for thread, failures in racers:
        thread.join(120)
        assert not failures
    assert {race: len(winners) for race, winners in won.items()} == dict.fromkeys(range(60), 1)
    for race, winners in won.items():
        assert store.get_bytes(f"lease-{race:02d}") == bytes(winners)


def test_a_server_that_never_returns_is_told_and_nothing_partial_is_left(
    server: Any, store: ObjectStore, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINO_S3_RETRY_SECONDS", "2")
    hasty = open_store(store.uri)
    hasty.put_file("big", big)
    folder = big.parent / "down"
    folder.mkdir()
    for work, under_way in (
        (lambda: hasty.get_file("big", folder / "copy"), lambda: any(folder.iterdir())),
        (lambda: hasty.put_file("new", big), lambda: _uploaded_parts(server) >= 2),
    ):
        before = _uploaded_parts(server)
        assert before == 0
        thread, failures = _in_thread(work)
        _wait_until(under_way)
        server.kill()
        thread.join(60)
        assert [isinstance(error, StorageError) for error in failures] == [True]
        assert "tried again for 2 s" in str(failures[0])
        assert list(folder.iterdir()) == []
        server.start()
        assert hasty.stat("new") is None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
