"""The probe of runs' pods as a program, against a real S3 server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kinetoscope.storage.open import open_store


def _probe(environment: Mapping[str, str], *only: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "kinetoscope.doctor.pod", "--only", *only],
        env={**os.environ, "KINO_S3_RETRY_SECONDS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    rows = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, {row["check"]: row for row in rows}, done.stdout


def test_a_store_that_works_is_ok_and_left_empty(
    minio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"s3://{minio.bucket}/probe"
    environment = {**minio.environment(), "KINO_STORE_URI": uri}
    code, found, _ = _probe(environment, "store")
    assert (code, found["object store"]["state"]) == (0, "ok")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert open_store(uri).list() == []


@pytest.mark.parametrize(
    ("wrong", "told", "hint"),
    [
        ({"KINO_STORE_URI": "s3://no-such-bucket/x"}, "NoSuchBucket", "bucket"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch", "secret key"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId", "access key"),
    ],
)
def test_a_wrong_bucket_and_wrong_keys_are_told_apart(
    minio: Any, wrong: dict[str, str], told: str, hint: str
) -> None:
    right = {**minio.environment(), "KINO_STORE_URI": f"s3://{minio.bucket}/probe"}
    code, found, output = _probe({**right, **wrong}, "store")
    store = found["object store"]
    assert (code, store["state"]) == (1, "bad")
    assert told in store["found"]
    assert hint in store["hint"]
    assert minio.secret_key not in output


def test_a_store_that_does_not_answer_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    endpoint = {"KINO_S3_ENDPOINT": f"http://127.0.0.1:{port}", "KINO_STORE_URI": "s3://bucket"}
    code, found, _ = _probe({**keys, **endpoint}, "store")
    assert (code, found["object store"]["state"]) == (1, "bad")
    assert "KINO_S3_ENDPOINT" in found["object store"]["hint"]


def test_credentials_that_are_not_mounted_are_named(minio: Any, tmp_path: Path) -> None:
    environment = {
        "KINO_S3_ENDPOINT": minio.endpoint,
        "KINO_STORE_URI": f"s3://{minio.bucket}",
        "KINO_S3_CREDENTIALS_PATH": str(tmp_path),
    }
    code, found, _ = _probe(environment, "store")
    assert (code, found["object store"]["state"]) == (1, "bad")
    assert "access_key" in found["object store"]["found"] + found["object store"]["hint"]


def test_what_no_pod_was_told_is_bad_and_says_where_it_belongs(tmp_path: Path) -> None:
    environment = {"KINO_WORKSPACE": str(tmp_path / "absent")}
    code, found, _ = _probe(environment, "store", "mlflow", "workspace", "shm")
    assert code == 1
    assert {name: row["state"] for name, row in found.items()} == {
        "object store": "bad",
        "mlflow": "bad",
        "workspace": "bad",
        "shm": "ok",
    }
    assert "objectStore" in found["object store"]["hint"]
    assert "KINO_WORKSPACE" in found["workspace"]["hint"]


def test_names_are_looked_up() -> None:
    environment = {
        "KINO_S3_ENDPOINT": "http://localhost:9",
        "MLFLOW_TRACKING_URI": "http://no-such-host.invalid:5000",
    }
    _, found, _ = _probe(environment, "dns")
    assert found["dns localhost"]["state"] == "ok"
    assert found["dns no-such-host.invalid"]["state"] == "bad"
    assert "CoreDNS" in found["dns no-such-host.invalid"]["hint"]


def test_the_workspace_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    code, found, _ = _probe({"KINO_WORKSPACE": str(tmp_path)}, "workspace")
    assert (code, found["workspace"]["state"]) == (0, "ok")
    assert list(tmp_path.iterdir()) == []


def test_the_probe_needs_neither_kubernetes_nor_mlflow_nor_torch() -> None:
    program = "import kinetoscope.doctor.pod, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"kubernetes", "mlflow", "torch", "av", "typer"}
