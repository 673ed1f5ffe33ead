"""Where a registered version's bundle is opened from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kinetoscope.core.errors import CorruptError, NotFoundError, StorageError, UserError
from kinetoscope.inference.bundle import Bundle, write_bundle
from kinetoscope.inference.manifest import MANIFEST, bundle_digest
from kinetoscope.inference.registered import open_version
from kinetoscope.storage.directory import DirectoryStore
from kinetoscope.tracking.versions import ModelVersion

SERVER = "http://127.0.0.1:1"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture
def version(bundle: Bundle, store: DirectoryStore, tmp_path: Path) -> ModelVersion:
    key = write_bundle(store, "models/toy", bundle, tmp_path)
    digest = bundle_digest(store.get_bytes(f"{key}/{MANIFEST}"))
    source = f"{store.uri}/{key}"
    return ModelVersion(
        name="toy", version="1", bundle_key=key, bundle_digest=digest, source=source
    )


def test_a_copied_store_opens_its_own_bundle(
    version: ModelVersion, store: DirectoryStore, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "objects", tmp_path / "copy")
    copy = DirectoryStore(tmp_path / "copy")
    assert open_version(version, store).uri == version.source
    assert open_version(version, copy).uri == f"{copy.uri}/{version.bundle_key}"


@pytest.mark.parametrize("tracking", [None, SERVER])
def test_a_bundle_in_another_folder_is_not_opened(
    version: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str | None
) -> None:
    if tracking:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    empty = DirectoryStore(tmp_path / "empty")
    with pytest.raises(NotFoundError, match=f"{version.bundle_key}, is not in .*/empty") as error:
        open_version(version, empty)
    assert "KINO_STORE_URI" in str(error.value.hint)


def test_a_server_may_name_a_bucket_and_an_embedded_registry_may_not(
    version: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINO_S3_ENDPOINT", SERVER)
    monkeypatch.setenv("KINO_S3_RETRY_SECONDS", "0")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    elsewhere = version.model_copy(update={"source": "s3://bucket/models/toy/1"})
    empty = DirectoryStore(tmp_path / "empty")
    with pytest.raises(NotFoundError):
        open_version(elsewhere, empty)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match="s3://bucket/models/toy/1"):
        open_version(elsewhere, empty)


def test_a_manifest_that_was_exchanged_is_refused(
    version: ModelVersion, store: DirectoryStore
) -> None:
    key = f"{version.bundle_key}/{MANIFEST}"
    store.put_bytes(key, store.get_bytes(key).replace(b'"fps": 8.0', b'"fps": 9.0'))
    with pytest.raises(CorruptError, match="not what was registered"):
        open_version(version, store)


@pytest.mark.parametrize("lacking", ["bundle_key", "bundle_digest"])
def test_a_version_that_names_no_bundle_is_refused(
    version: ModelVersion, store: DirectoryStore, lacking: str
) -> None:
    with pytest.raises(UserError, match="toy/1 does not tell which bundle") as error:
        open_version(version.model_copy(update={lacking: ""}), store)
    assert "kino models import" in str(error.value.hint)
