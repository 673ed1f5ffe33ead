"""The laptop's doctor as a whole."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from kinetoscope.core.findings import any_bad
from kinetoscope.core.settings import workspace
from kinetoscope.doctor.laptop import examine

if TYPE_CHECKING:
    from pathlib import Path

    from kinetoscope.core.findings import Finding


def _by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def test_this_environment_is_fit_and_nothing_is_left_behind(tmp_path: Path) -> None:
    findings = examine(workspace())
    assert not any_bad(findings), findings
    assert {"python", "av", "video codecs", "cores", "memory", "shm", "disk", "gpu"} <= {
        finding.check for finding in findings
    }
    assert all(finding.tried and finding.found for finding in findings)
    assert list(tmp_path.iterdir()) == []


def test_the_order_is_stable() -> None:
    first, second = examine(workspace()), examine(workspace())
    assert [f.check for f in first] == [f.check for f in second]


def test_a_workspace_that_is_a_file_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KINO_WORKSPACE", str(tmp_path / "file"))
    finding = _by_check(examine(workspace()))["workspace"]
    assert finding.state == "bad"
    assert "KINO_WORKSPACE" in finding.hint


def test_the_named_store_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINO_STORE_URI", (tmp_path / "objects").as_uri())
    assert _by_check(examine(workspace()))["object store"].state == "ok"


def test_a_store_whose_server_is_away_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("KINO_STORE_URI", "s3://bucket")
    monkeypatch.setenv("KINO_S3_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("KINO_S3_RETRY_SECONDS", "0")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lovelace")
    finding = _by_check(examine(workspace()))["object store"]
    assert finding.state == "bad"
    assert "KINO_S3_ENDPOINT" in finding.hint
    assert "lovelace" not in str(finding)


def test_a_named_mlflow_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    found = _by_check(examine(workspace()))
    assert found["mlflow"].state == "bad"
    assert "registry" not in found
