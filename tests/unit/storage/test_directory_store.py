from __future__ import annotations

import errno
import os
from collections.abc import Callable
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
        "file:relative/path",
        "file:///a/what?is=this",
        "file:///a/b#c",
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


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was synced and renamed or linked, in order; a folder's sync saves its entries."""
    done: list[str] = []
    fsync, link, replace = os.fsync, os.link, Path.replace

    def name(path: str | Path) -> str:
        last = Path(path).name
        return ".partial" if last.startswith(".partial-") else last

    def noted_fsync(descriptor: int) -> None:
        done.append(f"sync {name(Path(f'/proc/self/fd/{descriptor}').readlink())}")
        fsync(descriptor)

    def noted_link(source: Path, target: Path) -> None:
        link(source, target)
        done.append(f"link {name(target)}")

    def noted_replace(source: Path, target: Path) -> Path:
        done.append(f"rename {name(target)}")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    monkeypatch.setattr(Path, "replace", noted_replace)
    return done


WRITES: dict[str, Callable[[ObjectStore, Path], object]] = {
    "rename": lambda store, _: store.put_bytes("b/c/k", b"x"),
    "link": lambda store, _: store.put_bytes_if_absent("b/c/k", b"x"),
    "rename of a file": lambda store, path: store.put_file("b/c/k", path),
}


@pytest.mark.parametrize("how", WRITES)
def test_a_written_object_and_its_new_folders_outlive_a_power_cut(
    tmp_path: Path, disk: list[str], how: str
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store = open_store((tmp_path / "root").as_uri())
    WRITES[how](store, tmp_path / "file")
    folders = [f"sync {tmp_path.name}", "sync root", "sync b"]
    entry = ["sync .partial", f"{how.split()[0]} k", "sync c"]
    assert disk == [*folders, *entry]
    disk.clear()
    store.put_bytes("b/c/k", b"y")
    assert disk == ["sync .partial", "rename k", "sync c"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_syncs_no_folders_is_written_to_and_a_broken_disk_told(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    if code == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(code)):
            store.put_bytes("k", b"x")
    else:
        store.put_bytes("k", b"x")
        assert store.get_bytes("k") == b"x"


def test_a_huge_length_takes_no_memory(store: ObjectStore) -> None:
    store.put_bytes("k", b"abc")
    assert store.get_range("k", 1, 1 << 60) == b"bc"
