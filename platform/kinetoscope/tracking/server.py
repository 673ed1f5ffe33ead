"""The MLflow server of a cluster: ``python -m kinetoscope.tracking.server upgrade|serve``.

Both read the environment alone, so that no password is ever on a command line. ``upgrade`` gives
an empty database its tables and an older one the newest schema. ``serve`` becomes MLflow's server.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from kinetoscope.core.errors import ConfigError, KinetoscopeError, StorageError
from kinetoscope.core.mlflow_variables import mlflow_server_variables
from kinetoscope.core.settings import environment_with_defaults
from kinetoscope.core.text import printable
from kinetoscope.storage.s3.credentials import CredentialsSource
from kinetoscope.storage.s3.settings import S3Settings
from kinetoscope.tracking.database import exclusive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

_log = logging.getLogger(__name__)

_DEFAULTS = {
    "MLFLOW_HOST": "0.0.0.0",  # noqa: S104 - a pod; the chart's NetworkPolicy says who may come
    "MLFLOW_PORT": "5000",
    "MLFLOW_SERVE_ARTIFACTS": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Evaluates traces of language models, with worker processes of its own.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # boto3's newer checksums are refused by S3 servers older than they are.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}
_LOCK_NAME = "kinetoscope-mlflow-upgrade"
_LOCK_NUMBER = 0x6B696E6F
_LOCK_SECONDS = 600
_URI_HINT = (
    "write sqlite:////PATH, postgresql+psycopg://USER:PASSWORD@HOST/NAME or "
    "mysql+pymysql://USER:PASSWORD@HOST/NAME (in the chart: the Secret "
    "mlflow.database.existingSecret)"
)


def upgrade(database_uri: str) -> None:
    """Bring a database to the schema of the installed MLflow; several may try at once.

    Args:
        database_uri: SQLAlchemy's, with the password.

    Raises:
        ConfigError: the URI can't be read, or its driver is not installed.
        StorageError: the database can't be reached, or its schema is newer than MLflow's.
    """
    engine = _engine(database_uri)
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with exclusive(database_uri), _sole_upgrader(engine):
            _run_mlflow_upgrade(database_uri)
    except (CommandError, MlflowException, SQLAlchemyError) as error:
        shown = engine.url.render_as_string(hide_password=True)
        raise StorageError(
            f"the database {shown} can't be upgraded: {error}",
            hint="is it up, are user and password right, did a newer MLflow write it?",
        ) from None
    finally:
        engine.dispose()


def server_environment(scratch: Path) -> dict[str, str]:
    """Return the environment in which MLflow serves.

    Where artifacts are in S3, boto3 gets our settings, and our keys by files that only this user
    reads.

    Args:
        scratch: folder for these files.

    Raises:
        ConfigError: the keys or the S3 settings are missing or wrong.
    """
    if not mlflow_server_variables().artifacts.startswith("s3://"):
        return environment_with_defaults(_DEFAULTS)
    settings = S3Settings.from_environment()
    return environment_with_defaults(
        {
            **_DEFAULTS,
            **_aws_files(settings, scratch),
            "MLFLOW_S3_ENDPOINT_URL": settings.endpoint,
            "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": settings.addressing,
            "AWS_DEFAULT_REGION": settings.region,
            **({"AWS_CA_BUNDLE": str(settings.ca_file)} if settings.ca_file else {}),
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Upgrade the database, or become the server; returns the exit code of what went wrong.

    Args:
        arguments: of the command line; by default this process's.
    """
    parser = argparse.ArgumentParser(description="The MLflow server of a cluster.")
    parser.add_argument("verb", choices=("upgrade", "serve"))
    verb = parser.parse_args(arguments).verb
    try:
        uri = mlflow_server_variables().database_uri
        if not uri:
            raise ConfigError("MLFLOW_BACKEND_STORE_URI is not set", hint=_URI_HINT)
        if verb == "upgrade":
            upgrade(uri)
        else:
            _serve(server_environment(Path(mkdtemp(prefix="mlflow-server-"))))
    except KinetoscopeError as error:
        hint = f"\nhint: {printable(error.hint)}" if error.hint else ""
        sys.stderr.write(f"error: {printable(error.message)}{hint}\n")
        return int(error.exit_code)
    return 0


def _serve(environment: dict[str, str]) -> None:
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "server"], environment)  # noqa: S606


def _engine(database_uri: str) -> Engine:
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import ArgumentError

    try:
        return create_engine(database_uri, poolclass=NullPool)
    # SQLAlchemy's message repeats the URI.
    except ArgumentError:
        raise ConfigError("MLFLOW_BACKEND_STORE_URI is no database's URI", hint=_URI_HINT) from None
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"MLFLOW_BACKEND_STORE_URI names a driver that is not installed: {error.name}",
            hint=_URI_HINT,
        ) from None


@contextmanager
def _sole_upgrader(engine: Engine) -> Iterator[None]:
    """Hold a database server's own lock: replicas of the server start together."""
    from sqlalchemy import text

    take = {
        "postgresql": text("SELECT pg_advisory_lock(:number)").bindparams(number=_LOCK_NUMBER),
        "mysql": text("SELECT GET_LOCK(:name, :seconds)").bindparams(
            name=_LOCK_NAME, seconds=_LOCK_SECONDS
        ),
    }.get(engine.dialect.name)
    if take is None:
        yield
        return
    # Given back when the connection closes.
    with engine.connect() as connection:
        if connection.execute(take).scalar() == 0:
            raise StorageError(f"another upgrade has run for {_LOCK_SECONDS} seconds")
        yield


def _run_mlflow_upgrade(database_uri: str) -> None:
    from mlflow.db import commands

    _log.info("upgrading MLflow's database")
    commands.main(["upgrade", database_uri], standalone_mode=False)


def _aws_files(settings: S3Settings, scratch: Path) -> dict[str, str]:
    keys = CredentialsSource(settings.credentials_path).retrieve()
    lines = [
        "[default]",
        f"aws_access_key_id = {keys.access_key}",
        f"aws_secret_access_key = {keys.secret_key}",
        *([f"aws_session_token = {keys.session_token}"] if keys.session_token else []),
    ]
    path = scratch / "credentials"
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"AWS_SHARED_CREDENTIALS_FILE": str(path)}


if __name__ == "__main__":
    sys.exit(main())
