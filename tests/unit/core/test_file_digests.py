"""Digests of weights: by content, through links, whatever the cache says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kinetoscope.core.file_digests import FileDigests


def test_a_folder_s_digest_counts_linked_files_and_folders(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.safetensors").write_bytes(b"1")
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "sub").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    (folder / "config.json").write_bytes(b"{}")
    before = FileDigests(tmp_path / "cache.json").digest(folder)
    (elsewhere / "model.safetensors").write_bytes(b"22")
    assert FileDigests(tmp_path / "cache.json").digest(folder) != before


@pytest.mark.parametrize("content", ["", "[", "[" * 100_000, '{"a": 1}', '{"a": [1, 2, 3]}'])
def test_a_damaged_cache_remembers_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "cache.json").write_text(content)
    (tmp_path / "a").write_bytes(b"a")
    digests = FileDigests(tmp_path / "cache.json")
    assert digests.digest(tmp_path / "a").startswith("sha256:")
    digests.save()


def test_a_folder_in_the_cache_s_place_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache.json").mkdir()
    (tmp_path / "a").write_bytes(b"a")
    digests = FileDigests(tmp_path / "cache.json")
    digests.digest(tmp_path / "a")
    digests.save()


def test_a_file_that_is_replaced_with_its_time_kept_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a")
    status = path.stat()
    time.sleep(2.1)  # or the digest would not be remembered
    digests = FileDigests(tmp_path / "cache.json")
    before = digests.digest(path)
    digests.save()
    path.write_bytes(b"b")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert FileDigests(tmp_path / "cache.json").digest(path) != before
