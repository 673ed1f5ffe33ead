"""The files of S3 keys have either spelling, and are never read half old and half new."""

from __future__ import annotations

import itertools
import shutil
import threading
from pathlib import Path

import pytest

from kinetoscope.core.errors import ConfigError
from kinetoscope.storage.s3.credentials import CredentialsSource

OURS = ("access_key", "secret_key", "session_token")
KUBEFLOW_S = ("accesskey", "secretkey", "sessiontoken")


def _write(folder: Path, names: tuple[str, ...], *texts: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, texts, strict=False):
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    "names",
    [OURS, KUBEFLOW_S, ("access_key", "secretkey", "session_token")],
    ids=["ours", "Kubeflow's", "mixed"],
)
def test_keys_are_read_by_either_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    _write(tmp_path, names, "a-1\n", "b-1")
    source = CredentialsSource(tmp_path)
    found = source.retrieve()
    assert (found.access_key, found.secret_key, found.session_token) == ("a-1", "b-1", None)
    _write(tmp_path, names, "a-22", "b-22", "c-22")
    found = source.retrieve()
    assert (found.access_key, found.secret_key, found.session_token) == ("a-22", "b-22", "c-22")


def test_the_other_files_of_a_secret_are_no_matter(tmp_path: Path) -> None:
    _write(tmp_path, (*KUBEFLOW_S[:2], "endpoint", "bucket"), "a", "b", "c d", "e")
    assert CredentialsSource(tmp_path).retrieve().access_key == "a"


def test_both_names_must_hold_the_same(tmp_path: Path) -> None:
    _write(tmp_path, OURS, "a", "b", "c")
    _write(tmp_path, KUBEFLOW_S, "a\n", "b\n", "c\n")
    source = CredentialsSource(tmp_path)
    assert source.retrieve().access_key == "a"
    for name, other, text in zip(KUBEFLOW_S, OURS, "abc", strict=True):
        for different in ("hunter2", ""):
            (tmp_path / name).write_text(different)
            with pytest.raises(ConfigError, match=f"{other} and {name} differ") as told:
                source.retrieve()
            assert "hunter2" not in f"{told.value!r} {told.value} {told.value.hint}"
            assert "KINO_S3_CREDENTIALS_PATH" in (told.value.hint or "")
        (tmp_path / name).write_text(text)
    assert source.retrieve().access_key == "a"


def test_what_is_missing_is_told_whatever_the_spelling(tmp_path: Path) -> None:
    _write(tmp_path, KUBEFLOW_S[:1], "a")
    with pytest.raises(ConfigError, match="no secret key in"):
        CredentialsSource(tmp_path).retrieve()
    (tmp_path / "secretkey").write_text(" \n")
    with pytest.raises(ConfigError, match="no secret key in"):
        CredentialsSource(tmp_path).retrieve()


def test_a_rotation_while_reading_gives_one_pair(tmp_path: Path) -> None:
    for name in (*OURS, *KUBEFLOW_S):
        (tmp_path / name).symlink_to(f"..data/{name}")
    _rotate(tmp_path, 0)
    over = threading.Event()

    def rotate() -> None:
        for version in itertools.count(1):
            if over.is_set():
                return
            _rotate(tmp_path, version)

    rotating = threading.Thread(target=rotate)
    rotating.start()
    try:
        found = [_versions(CredentialsSource(tmp_path)) for _ in range(200)]
    finally:
        over.set()
        rotating.join()
    assert [versions for versions in found if len(versions) > 1] == []
    assert len(set.union(*found)) > 1


def _rotate(folder: Path, version: int) -> None:
    """Change all files at once, as Kubernetes does: links into a new folder, the old one goes."""
    for names in (OURS, KUBEFLOW_S):
        _write(folder / f"..{version}", names, *(f"{name[0]}-{version}" for name in names))
    (folder / "..next").symlink_to(f"..{version}")
    (folder / "..next").replace(folder / "..data")
    shutil.rmtree(folder / f"..{version - 1}", ignore_errors=True)


def _versions(source: CredentialsSource) -> set[str]:
    found = source.retrieve()
    texts = (found.access_key, found.secret_key, found.session_token or "")
    return {text.partition("-")[2] for text in texts}
