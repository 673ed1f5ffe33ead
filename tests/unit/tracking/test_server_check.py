"""An MLflow server examined over HTTP: a real server, and servers that answer as it does wrong."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from tiny.mlflow_server import free_port, mlflow_server

from kinetoscope.core.errors import StorageError
from kinetoscope.core.mlflow_variables import MlflowAccess, mlflow_access
from kinetoscope.tracking.embedded import known_versions
from kinetoscope.tracking.server_check import EXPERIMENT, examine_server, refuse_unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server that refuses the host name ``127.0.0.1:PORT`` unless asked for it."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    allowed = ("--allowed-hosts", f"localhost:{port}")
    with mlflow_server(folder, *allowed, workers=1, port=port):
        yield f"http://localhost:{port}"


def _experiment_stages(uri: str) -> list[str]:
    body = json.dumps({"max_results": 50, "view_type": "ALL"}).encode()
    request = urllib.request.Request(  # noqa: S310
        f"{uri}/api/2.0/mlflow/experiments/search",
        data=body,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        found = json.load(answer)["experiments"]
    return [one["lifecycle_stage"] for one in found if one["name"] == EXPERIMENT]


def test_a_real_server_is_used_twice_and_keeps_one_deleted_experiment(server_uri: str) -> None:
    for _ in range(2):
        findings = examine_server(MlflowAccess(server_uri))
        assert [f.state for f in findings] == ["ok", "ok"], findings
    assert _experiment_stages(server_uri) == ["deleted"]


def test_the_trap_of_the_host_header_is_named(server_uri: str) -> None:
    findings = examine_server(MlflowAccess(server_uri.replace("localhost", "127.0.0.1")))
    assert [f.state for f in findings] == ["ok", "bad"]
    assert findings[1].found.startswith("403")
    assert "allowedHosts" in findings[1].hint


def test_nobody_there_is_told_from_a_refusal() -> None:
    finding = examine_server(MlflowAccess(f"http://127.0.0.1:{free_port()}"))[0]
    assert finding.state == "bad"
    assert "refused" in finding.found
    assert "MLFLOW_TRACKING_URI" in finding.hint


class _AsksForALogin(BaseHTTPRequestHandler):
    seen: list[str | None]

    def do_GET(self) -> None:
        self.seen.append(self.headers["Authorization"])
        self.send_response(401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def login_server() -> Iterator[tuple[str, list[str | None]]]:
    _AsksForALogin.seen = []
    server = HTTPServer(("127.0.0.1", 0), _AsksForALogin)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", _AsksForALogin.seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_credentials_are_sent_and_never_shown(
    login_server: tuple[str, list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, seen = login_server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "lovelace")
    finding = examine_server(mlflow_access())[0]
    assert seen == ["Basic YWRhOmxvdmVsYWNl"]
    assert finding.state == "bad"
    assert "MLFLOW_TRACKING_TOKEN" in finding.hint
    assert "lovelace" not in str(finding) + repr(mlflow_access())


def test_a_password_in_the_uri_is_not_repeated() -> None:
    findings = examine_server(MlflowAccess(f"http://ada:lovelace@127.0.0.1:{free_port()}"))
    assert "lovelace" not in str(findings)


@pytest.mark.parametrize(
    "uri",
    ["http://user:word@127.0.0.1:PORT", "http://no-such-host.invalid", "http://a:b"],
)
def test_who_reads_models_of_a_server_that_is_not_there_hears_so_at_once(uri: str) -> None:
    start = time.monotonic()
    with pytest.raises(StorageError, match=r"MLflow at http://.* does not answer: ") as caught:
        known_versions(uri.replace("PORT", str(free_port())))
    assert time.monotonic() - start < 20
    assert "word" not in f"{caught.value.message}{caught.value.hint}"
    assert "MLFLOW_TRACKING_URI" in (caught.value.hint or "")


def test_a_server_that_refuses_does_answer(server_uri: str) -> None:
    refused = server_uri.replace("localhost", "127.0.0.1")
    for uri in (server_uri, refused, server_uri.replace("//", "//user:word@")):
        refuse_unreachable(MlflowAccess(uri))
