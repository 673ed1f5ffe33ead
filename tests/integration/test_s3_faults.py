"""An S3 server that answers late, wrongly or not at all: a proxy before a real one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from integration.s3_proxy import HALF, LOST, Exchange, Fault, Proxy, always, error, nothing, once

from kinetoscope.core.errors import CorruptError, DataError, NotFoundError, StorageError
from kinetoscope.data.sources.bucket import PrefixPlace
from kinetoscope.storage.open import open_store
from kinetoscope.storage.s3.conditional import supports_conditional_writes
from kinetoscope.storage.store import ObjectStore

MIB = 1 << 20
NOISE = hashlib.shake_128(b"noise").digest(16 * MIB + 5)


@pytest.fixture
def proxy(minio: Any) -> Iterator[Proxy]:
    proxy = Proxy(minio.port)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: Proxy, minio: Any, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in minio.environment(proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINO_S3_RETRY_SECONDS", "20")
    store = open_store(f"s3://{minio.bucket}/{uuid4().hex}")
    # What is tried once per connection is behind us.
    assert supports_conditional_writes(store)
    proxy.seen.clear()
    return store


@pytest.fixture
def big(tmp_path: Path) -> Path:
    (tmp_path / "big").write_bytes(NOISE)
    return tmp_path / "big"


@pytest.mark.parametrize(
    "fault", [error(503, "SlowDown"), error(500, "InternalError"), (502, b"<html>"), LOST, HALF]
)
def test_a_failure_that_passes_is_tried_again(store: ObjectStore, proxy: Proxy, fault: Any) -> None:
    # Half an answer to a write says that it was done.
    refusals = iter([LOST if fault == HALF else fault] * 2)
    proxy.before = lambda _: next(refusals, None)
    store.put_bytes("k", b"x" * 100)
    proxy.after = once(always(fault))
    assert store.get_bytes("k") == b"x" * 100
    assert (proxy.count("PUT"), proxy.count("GET")) == (3, 2)


@pytest.mark.parametrize("fault", [error(503, "SlowDown"), LOST, HALF])
def test_a_range_is_one_request_and_tried_again(
    store: ObjectStore, proxy: Proxy, fault: Any
) -> None:
    store.put_bytes("k", b"0123456789" * 100)
    proxy.seen.clear()
    assert store.get_range("k", 995, 100) == b"56789"
    assert [exchange.headers["Range"] for exchange in proxy.seen] == ["bytes=995-1094"]
    proxy.after = once(always(fault))
    assert store.get_range("k", 5, 500) == b"5678901234" * 50
    assert proxy.count("GET") == 3


def test_a_server_that_sends_all_instead_of_a_range_is_refused_at_once(
    store: ObjectStore, proxy: Proxy
) -> None:
    store.put_bytes("k", b"0123456789")
    proxy.seen.clear()
    proxy.after = lambda _: (200, b"0123456789")
    with pytest.raises(StorageError, match="ignores Range"):
        store.get_range("k", 2, 3)
    assert proxy.count("GET") == 1


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "AccessDenied", "permission"),
        (404, "NoSuchBucket", "create the bucket"),
        (403, "SignatureDoesNotMatch", "KINO_S3_CREDENTIALS_PATH"),
        (400, "AuthorizationHeaderMalformed", "KINO_S3_REGION"),
        (507, "XMinioStorageFull", "space"),
        (501, "NotImplemented", None),
    ],
)
def test_a_lasting_failure_is_told_at_once(
    store: ObjectStore, proxy: Proxy, status: int, code: str, hint: str | None
) -> None:
    proxy.before = always(error(status, code))
    with pytest.raises(
        StorageError, match=rf"can't read s3://bucket/\w+/k at http.*{code}: told"
    ) as e:
        store.get_bytes("k")
    assert hint in e.value.hint if hint and e.value.hint else e.value.hint is hint
    assert len(proxy.seen) == 1


def test_a_server_that_stays_away_is_told_in_bounded_time(
    store: ObjectStore, proxy: Proxy, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINO_S3_RETRY_SECONDS", "1")
    hasty = open_store(store.uri)
    proxy.before = lambda exchange: LOST if "partNumber" in exchange.path else None
    with pytest.raises(StorageError, match=r"tried again for 1 s") as told:
        hasty.put_file("k", big)
    assert "not-a-secret" not in f"{told.value} {told.value.hint}"
    assert proxy.count("DELETE", "uploadId") == 1
    assert store.list() == []


def test_a_creation_whose_answer_got_lost_is_known_as_ones_own(
    store: ObjectStore, proxy: Proxy
) -> None:
    proxy.after = once(always(LOST))
    assert store.put_bytes_if_absent("lease", b"mine") is True
    assert store.get_bytes("lease") == b"mine"
    assert store.put_bytes_if_absent("lease", b"again") is False
    proxy.after = once(always(LOST))
    assert store.put_bytes_if_absent("lease", b"mine") is False
    assert store.get_bytes("lease") == b"mine"


def test_a_creation_that_was_lost_and_deleted_is_made_again(
    store: ObjectStore, proxy: Proxy
) -> None:
    proxy.after = once(always(LOST))

    def delete(exchange: Exchange) -> None:
        if exchange.method == "HEAD":
            proxy.before = nothing
            store.delete("lease")

    proxy.before = delete
    assert store.put_bytes_if_absent("lease", b"mine") is True
    assert store.get_bytes("lease") == b"mine"


@pytest.mark.parametrize("answer", [(200, b""), error(501, "NotImplemented")])
def test_a_server_that_ignores_conditions_is_refused(
    proxy: Proxy, minio: Any, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, bytes]
) -> None:
    for name, value in minio.environment(proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    proxy.after = lambda exchange: answer if exchange.headers.get("If-None-Match") else None
    store = open_store(f"s3://{minio.bucket}/{uuid4().hex}")
    assert not supports_conditional_writes(store)
    with pytest.raises(StorageError, match="ignores If-None-Match"):
        store.put_bytes_if_absent("lease", b"x")
    assert store.stat("lease") is None
    assert store.list() == []


@pytest.mark.parametrize("answer", [LOST, error(200, "InternalError"), error(503, "SlowDown")])
def test_the_end_of_an_upload_survives(
    store: ObjectStore, proxy: Proxy, big: Path, answer: Any
) -> None:
    finish = once(lambda exchange: answer if exchange.is_("POST", "uploadId") else None)
    if answer == LOST:
        proxy.after = finish
    else:
        proxy.before = finish
    store.put_file("k", big)
    assert store.get_bytes("k") == NOISE
    # Begun once: neither sent a second time nor taken for lost.
    assert proxy.count("POST", "uploads=") == 1


def test_an_upload_that_somebody_aborted_starts_again(
    store: ObjectStore, proxy: Proxy, big: Path
) -> None:
    proxy.before = once(
        lambda exchange: error(404, "NoSuchUpload") if "partNumber=2" in exchange.path else None
    )
    store.put_file("k", big)
    assert store.get_bytes("k") == NOISE
    assert proxy.count("POST", "uploads=") == 2
    proxy.before = lambda exchange: (
        error(404, "NoSuchUpload") if "uploadId" in exchange.path else None
    )
    with pytest.raises(StorageError, match="the server has lost its upload 3 times"):
        store.put_file("k2", big)


def test_a_refused_upload_is_aborted(store: ObjectStore, proxy: Proxy, big: Path) -> None:
    store.put_bytes("k", b"old")
    proxy.before = lambda e: error(403, "AccessDenied") if "partNumber=3" in e.path else None
    with pytest.raises(StorageError, match="can't write part 3 of"):
        store.put_file("k", big)
    assert proxy.count("DELETE", "uploadId") == 1
    assert store.get_bytes("k") == b"old"


def test_an_object_replaced_while_it_is_read_is_never_torn(
    store: ObjectStore, proxy: Proxy, big: Path, tmp_path: Path
) -> None:
    store.put_file("k", big)
    ranges = []

    def replace(exchange: Exchange) -> None:
        if exchange.method == "GET":
            ranges.append(exchange.headers["Range"])
            if len(ranges) == 2:
                store.put_bytes("k", NOISE[::-1])

    proxy.before = replace
    store.get_file("k", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == NOISE[::-1]
    assert ranges.count(f"bytes=0-{8 * MIB - 1}") == 2


def test_an_object_that_keeps_changing_or_vanishes_is_told(
    store: ObjectStore, proxy: Proxy, big: Path, tmp_path: Path
) -> None:
    store.put_file("k", big)

    def act(do: Callable[[], None]) -> Fault:
        def before(exchange: Exchange) -> None:
            if exchange.method == "GET" and not exchange.headers["Range"].startswith("bytes=0-"):
                proxy.before = nothing
                do()
                proxy.before = before

        return before

    turns = iter(range(1000))
    proxy.before = act(lambda: store.put_bytes("k", NOISE + bytes([next(turns) % 256])))
    with pytest.raises(StorageError, match="replaced 10 times while it was read"):
        store.get_file("k", tmp_path / "copy")
    proxy.before = act(lambda: store.delete("k"))
    with pytest.raises(NotFoundError, match="'k'"):
        store.get_file("k", tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["big"]


def test_after_a_break_only_the_rest_of_a_range_is_fetched(
    store: ObjectStore, proxy: Proxy, big: Path, tmp_path: Path
) -> None:
    store.put_file("k", big)
    second = f"bytes={8 * MIB}-{16 * MIB - 1}"
    proxy.after = once(lambda e: HALF if e.headers.get("Range") == second else None)
    store.get_file("k", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == NOISE
    ends = [
        e.headers["Range"]
        for e in proxy.seen
        if e.headers.get("Range", "").endswith(f"-{16 * MIB - 1}")
    ]
    begins = [int(text.removeprefix("bytes=").partition("-")[0]) for text in ends]
    assert len(begins) == 2
    assert 8 * MIB < begins[1] <= 12 * MIB


def test_damage_on_the_way_is_noticed(
    store: ObjectStore, proxy: Proxy, big: Path, tmp_path: Path
) -> None:
    store.put_bytes("small", b"right")
    store.put_file("big", big)

    def damage(exchange: Exchange) -> None:
        if exchange.method == "GET":
            exchange.body = exchange.body[:-1] + bytes([exchange.body[-1] ^ 1])

    def damage_and_tell(exchange: Exchange) -> bool:
        damage(exchange)
        return True

    proxy.after = once(damage_and_tell)
    assert store.get_bytes("small") == b"right"
    proxy.after = once(damage_and_tell)
    store.get_file("big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == NOISE
    proxy.after = damage
    with pytest.raises(CorruptError, match="does not match the digest"):
        store.get_file("big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == NOISE


def test_objects_of_others_need_no_digest(minio: Any, store: ObjectStore, tmp_path: Path) -> None:
    from minio import Minio

    client = Minio(f"127.0.0.1:{minio.port}", minio.access_key, minio.secret_key, secure=False)
    name = f"{store.uri.rpartition('/')[2]}/theirs"
    (tmp_path / "theirs").write_bytes(NOISE)
    client.fput_object(minio.bucket, name, str(tmp_path / "theirs"))
    store.get_file("theirs", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == NOISE
    assert store.digest("theirs") == f"sha256:{hashlib.sha256(NOISE).hexdigest()}"


def test_videos_of_a_server_without_etags_are_refused(store: ObjectStore, proxy: Proxy) -> None:
    store.put_bytes("a.mp4", b"a")
    proxy.after = lambda e: (
        (200, re.sub(rb"<ETag>.*?</ETag>", b"", e.body)) if e.is_("GET", "list-type") else None
    )
    with pytest.raises(DataError, match="gives no ETags") as caught:
        PrefixPlace(store).list()
    assert "kino data upload" in (caught.value.hint or "")
