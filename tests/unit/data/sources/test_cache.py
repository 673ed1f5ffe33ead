from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.units import GIB, MIB
from kinetoscope.data.sources.blocks import BLOCK_BYTES, digest_blocks
from kinetoscope.data.sources.cache import BlockCache, open_cache
from kinetoscope.data.sources.directory import LocalBytes
from kinetoscope.data.sources.videos import _CachedBytes


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_blocks_are_kept_by_content(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path / "c", 10 * MIB)
    assert cache.get(sha(b"x")) is None
    cache.put(b"x")
    assert BlockCache(tmp_path / "c", 10 * MIB).get(sha(b"x")) == b"x"


def test_a_damaged_block_is_forgotten(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10 * MIB)
    cache.put(b"good")
    (path,) = tmp_path.glob("*/*")
    path.write_bytes(b"evil")
    assert cache.get(sha(b"good")) is None
    assert not path.exists()


def test_the_bound_is_kept_and_what_is_used_stays(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 20 * MIB)
    blocks = [bytes([number]) * MIB for number in range(60)]
    for number, block in enumerate(blocks):
        cache.put(block)
        os.utime(cache._path(sha(block)), (number, number))
        assert cache.get(sha(blocks[0])) == blocks[0]  # used all the time
        assert used(tmp_path) <= 22 * MIB
    assert cache.get(sha(blocks[59])) is not None
    assert cache.get(sha(blocks[20])) is None


def test_two_processes_that_fill_it_keep_the_bound_together(tmp_path: Path) -> None:
    one, other = BlockCache(tmp_path, 20 * MIB), BlockCache(tmp_path, 20 * MIB)
    for number in range(60):
        one.put(bytes([number]) * MIB)
        other.put(bytes([number + 100]) * MIB)
    assert used(tmp_path) <= 24 * MIB


def test_nothing_is_kept_where_it_can_not_or_shall_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for cache in (BlockCache(tmp_path / "file", MIB), BlockCache(tmp_path / "no", 0)):
        cache.put(b"x")
        assert cache.get(sha(b"x")) is None
    assert not (tmp_path / "no").exists()


def test_what_can_t_be_deleted_stays_and_ends_no_reading(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 2 * MIB)
    foreign = tmp_path / "00" / "folder"
    foreign.mkdir(parents=True)
    os.utime(foreign, (1, 1))
    for number in range(9):
        cache.put(bytes([number]) * MIB)
    assert foreign.is_dir()
    assert used(tmp_path) <= 3 * MIB


def test_its_size_is_said_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINO_VIDEO_CACHE_GIB", "0.5")
    assert open_cache()._max_bytes == GIB // 2
    monkeypatch.setenv("KINO_VIDEO_CACHE_GIB", "much")
    with pytest.raises(ConfigError, match="KINO_VIDEO_CACHE_GIB='much'"):
        open_cache()
    monkeypatch.delenv("KINO_VIDEO_CACHE_GIB")
    assert 0 < open_cache()._max_bytes <= 16 * GIB


def test_only_what_is_missing_is_asked_for_once_more(tmp_path: Path) -> None:
    content = os.urandom(6 * BLOCK_BYTES + 5)
    (tmp_path / "file").write_bytes(content)
    source = LocalBytes(tmp_path / "file")
    cached = _CachedBytes(source, digest_blocks(source), BlockCache(tmp_path / "c", GIB))
    for first, count in [(2, 1), (4, 1), (1, 5), (0, 7), (6, 3), (0, 9)]:
        start, end = first * BLOCK_BYTES, (first + count) * BLOCK_BYTES
        assert cached.read(start, end - start) == content[start:end]
    (tmp_path / "file").unlink()
    assert cached.read(0, 7 * BLOCK_BYTES) == content
