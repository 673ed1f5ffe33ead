"""The MLflow server of the chart, on a real sqlite file."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kinetoscope.core.mlflow_variables import MlflowAccess
from kinetoscope.tracking.database_check import examine_database, known_revisions
from kinetoscope.tracking.server import server_environment
from kinetoscope.tracking.server_check import examine_server

SERVER = [sys.executable, "-m", "kinetoscope.tracking.server"]
SERVICE = "kinetoscope-mlflow.team.svc"
READ_MODELS = """
import sys
from kinetoscope.tracking.embedded import known_versions
found = known_versions(sys.argv[1]).list_models()
print(found, sorted({"alembic", "sqlalchemy"} & sys.modules.keys()))
"""
# An early schema, from before there was a registry.
EARLY_REVISION = "451aebb31d03"


def _run(verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SERVER, verb],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _upgrade(path: Path) -> subprocess.CompletedProcess[str]:
    return _run("upgrade", MLFLOW_BACKEND_STORE_URI=f"sqlite:///{path}")


def _write_early_database(path: Path) -> None:
    """A database of an early MLflow, with an experiment in it."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{path}")  # type: ignore[no-untyped-call]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, EARLY_REVISION)
    engine.dispose()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "VALUES (7, 'old', '/old', 'active')"
        )


def _schema(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_an_empty_database_gets_the_newest_schema(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "mlflow.db"
    done = _upgrade(path)
    assert done.returncode == 0, done.stderr
    assert examine_database(path).state == "ok"
    assert _schema(path) == known_revisions()[-1]
    again = _upgrade(path)
    assert again.returncode == 0, again.stderr


def test_an_old_database_is_upgraded_with_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    _write_early_database(path)
    assert examine_database(path).state == "bad"
    done = _upgrade(path)
    assert done.returncode == 0, done.stderr
    assert examine_database(path).state == "ok"
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT experiment_id, name FROM experiments").fetchall() == [
            (7, "old")
        ]


def test_two_upgrades_at_once_both_succeed(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    both = [
        subprocess.Popen(
            [*SERVER, "upgrade"],
            env=os.environ | {"MLFLOW_BACKEND_STORE_URI": uri},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert examine_database(tmp_path / "mlflow.db").state == "ok"


def test_a_database_of_a_newer_mlflow_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    _write_early_database(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'fromthefuture'")
    done = _upgrade(path)
    assert done.returncode == 1
    assert "fromthefuture" in done.stderr
    assert "newer MLflow" in done.stderr
    assert _schema(path) == "fromthefuture"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "no uri but with a hunter2 in it",
        "oracle+nosuchdriver://user:hunter2@127.0.0.1/db",
        "mysql+nosuchdriver://user:hunter2@127.0.0.1/db",
    ],
)
def test_a_wrong_uri_is_refused_without_repeating_the_password(uri: str) -> None:
    done = _run("upgrade", MLFLOW_BACKEND_STORE_URI=uri)
    assert done.returncode == 2
    assert "MLFLOW_BACKEND_STORE_URI" in done.stderr
    assert "hint: write sqlite" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_boto3_gets_the_keys_by_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "access_key").write_text("tester\n")
    (secret / "secret_key").write_text("hunter2\n")
    ca_file = tmp_path / "ca.crt"
    ca_file.write_text("")
    for name, value in {
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/mlflow",
        "KINO_S3_ENDPOINT": "https://s3.example.org:9443",
        "KINO_S3_REGION": "eu-central-1",
        "KINO_S3_ADDRESSING": "path",
        "KINO_S3_CA_FILE": str(ca_file),
        "KINO_S3_CREDENTIALS_PATH": str(secret),
    }.items():
        monkeypatch.setenv(name, value)
    environment = server_environment(tmp_path)
    file = Path(environment["AWS_SHARED_CREDENTIALS_FILE"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().splitlines() == [
        "[default]",
        "aws_access_key_id = tester",
        "aws_secret_access_key = hunter2",
    ]
    assert environment["MLFLOW_S3_ENDPOINT_URL"] == "https://s3.example.org:9443"
    assert environment["MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"] == "path"
    assert environment["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert environment["AWS_CA_BUNDLE"] == str(ca_file)
    assert "hunter2" not in "".join(environment.values())


@contextmanager
def _serving(environment: Mapping[str, str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*SERVER, "serve"], env=os.environ | environment, start_new_session=True
    )
    try:
        until = time.monotonic() + 240
        while True:
            assert process.poll() is None
            assert time.monotonic() < until
            try:
                with urllib.request.urlopen(f"{url}/health"):  # noqa: S310
                    break
            except OSError:
                time.sleep(0.2)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _ask(url: str, host: str, body: Mapping[str, Any] | None = None) -> tuple[int, str]:
    request = urllib.request.Request(  # noqa: S310
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Host": host, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _command_lines(group: int) -> list[str]:
    """The command lines of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == group:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture
def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def test_the_server_answers_to_its_names_only(tmp_path: Path, free_port: int) -> None:
    path, url = tmp_path / "mlflow.db", f"http://127.0.0.1:{free_port}"
    assert _upgrade(path).returncode == 0
    environment = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{path}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:*,{SERVICE}:5000",
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(free_port),
        "MLFLOW_WORKERS": "1",
    }
    with _serving(environment, url) as process:
        assert [finding.state for finding in examine_server(MlflowAccess(url))] == ["ok", "ok"]
        search = f"{url}/api/2.0/mlflow/experiments/search"
        assert _ask(search, f"{SERVICE}:5000", {"max_results": 1})[0] == 200
        status, text = _ask(search, "evil.example.org", {"max_results": 1})
        assert (status, "Invalid Host" in text) == (403, True)
        _upload(f"{url}/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/note.txt", b"kept")
        read = [sys.executable, "-c", READ_MODELS, url]
        assert subprocess.check_output(read, cwd=tmp_path, text=True) == "[] []\n"
        lines = _command_lines(process.pid)
        assert lines
        assert not [line for line in lines if str(path) in line]
    assert (tmp_path / "artifacts/1/run/artifacts/note.txt").read_bytes() == b"kept"


def _upload(url: str, data: bytes) -> None:
    request = urllib.request.Request(url, data=data, method="PUT")  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        assert answer.status == 200


def test_the_development_store_gets_its_bucket_once(
    minio: Any, run_module: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    environment = {**minio.environment(), "KINO_STORE_URI": "s3://fresh-bucket/prefix"}
    first = run_module("kinetoscope.storage.s3.create_bucket", **environment)
    assert (first.returncode, first.stdout) == (0, "made the bucket\n"), first.stderr
    again = run_module("kinetoscope.storage.s3.create_bucket", **environment)
    assert (again.returncode, again.stdout) == (0, "the bucket is there\n"), again.stderr
    assert (minio.folder / "data" / "fresh-bucket").is_dir()
    wrong = run_module(
        "kinetoscope.storage.s3.create_bucket",
        **environment | {"AWS_SECRET_ACCESS_KEY": "wrong-key"},
    )
    assert wrong.returncode != 0
    assert "wrong-key" not in wrong.stderr


@pytest.fixture
def run_module() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(module: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
