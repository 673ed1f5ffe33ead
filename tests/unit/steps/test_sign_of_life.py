from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from kinetoscope.core.errors import StorageError
from kinetoscope.steps.nodes.sign_of_life import SignOfLife
from kinetoscope.storage.directory import DirectoryStore

SECONDS = 0.4
KEY = "runs/r/launcher"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "objects")
    store.put_bytes("spec", b"x")
    return store


@pytest.fixture
def life(store: DirectoryStore) -> SignOfLife:
    return SignOfLife(store, KEY, "spec", SECONDS)


@pytest.mark.parametrize("is_there", [True, False])
def test_what_does_not_change_in_time_is_gone(
    store: DirectoryStore, life: SignOfLife, is_there: bool
) -> None:
    if is_there:
        store.put_bytes(KEY, b"1")
    assert not life.is_gone()
    time.sleep(SECONDS / 2)
    assert not life.is_gone()
    time.sleep(SECONDS)
    assert life.is_gone()


def test_each_change_gives_the_whole_time_again(store: DirectoryStore, life: SignOfLife) -> None:
    for beat in range(8):
        store.put_bytes(KEY, b"%d" % beat)
        assert not life.is_gone()
        time.sleep(SECONDS / 2)
    time.sleep(SECONDS)
    assert life.is_gone()
    store.put_bytes(KEY, b"back")
    assert not life.is_gone()


def test_a_store_that_cannot_be_read_is_no_expiry(tmp_path: Path, life: SignOfLife) -> None:
    assert not life.is_gone()
    (tmp_path / "objects").rename(tmp_path / "away")
    deadline = time.monotonic() + 2 * SECONDS
    while time.monotonic() < deadline:
        with pytest.raises(StorageError, match="lacks spec, too"):
            life.is_gone()
        time.sleep(0.1)
    shutil.move(tmp_path / "away", tmp_path / "objects")
    assert not life.is_gone()
    time.sleep(SECONDS / 2)
    assert not life.is_gone()  # the whole time again, not what was left of it
    time.sleep(SECONDS)
    assert life.is_gone()


def test_it_is_looked_at_several_times_within_the_time(store: DirectoryStore) -> None:
    assert SignOfLife(store, KEY, "spec", 60.0).look_seconds == 15
    assert SignOfLife(store, KEY, "spec", 2.0).look_seconds == 0.5
