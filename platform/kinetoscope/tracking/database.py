"""Opening MLflow's store safely from several processes at once.

The embedded store is a sqlite file: two processes that open a fresh one both try to create its
tables, and concurrent writers see "database is locked". A lock file and retries mend that.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from kinetoscope.core.errors import StorageError
from kinetoscope.core.settings import lend_home, workspace
from kinetoscope.core.uris import sqlite_path
from kinetoscope.tracking.damage import refuse_damaged, sqlite_error
from kinetoscope.tracking.migrations import find_migrations
from kinetoscope.tracking.relocation import relocate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflow import MlflowClient

EXPERIMENT = "kinetoscope"

_BUSY = ("database is locked", "database table is locked", "database is busy")
_GIVE_UP_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 2.0

T = TypeVar("T")


def connect(tracking_uri: str) -> MlflowClient:
    """Return a client of the tracking store and registry; a fresh sqlite file gets its tables.

    Raises:
        StorageError: the store can't be opened; ``CorruptError`` where its file is damaged.
    """
    # Read when mlflow is imported; a laptop run uses no network.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    lend_home()
    from mlflow import MlflowClient

    if not tracking_uri.startswith("http"):  # a server has its migrations behind it
        find_migrations()
    for name in ("mlflow.store", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    path, own = sqlite_path(tracking_uri), workspace()
    with exclusive(tracking_uri):
        if path is not None:
            refuse_damaged(path)
            # MLflow's default experiment, which nobody uses, would have artifacts in the current
            # folder, whose path MLflow writes into SQL as it is.
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            call(SqlAlchemyStore, tracking_uri, own.artifacts_path.as_uri())
        # Making the client opens the tracking store, the first query the registry's: each creates
        # the tables that are missing.
        client = call(MlflowClient, tracking_uri=tracking_uri, registry_uri=tracking_uri)
        call(client.search_registered_models, max_results=1)
        if path is not None and path == sqlite_path(own.tracking_uri):
            relocate(path, EXPERIMENT, own.artifacts_path)
    return client


@contextmanager
def exclusive(tracking_uri: str) -> Iterator[None]:
    """Keep other processes of this machine out while a sqlite store is created or changed.

    A tracking server serialises by itself: nothing is locked then.
    """
    path = sqlite_path(tracking_uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def call(function: Callable[..., T], *args: object, **kwargs: object) -> T:
    """Call a client's method, and again while sqlite says that another process holds the database.

    Raises:
        StorageError: still locked after a minute, or sqlite can't use the database's file.
    """
    pause = 0.05
    give_up_at = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        try:
            return function(*args, **kwargs)
        except _database_errors() as error:
            if not any(text in str(error) for text in _BUSY):
                trouble = sqlite_error(str(error), _database_of(function))
                if trouble is not None:
                    raise trouble from error
                raise
            if time.monotonic() > give_up_at:
                raise StorageError(
                    f"MLflow's database stayed locked for {_GIVE_UP_SECONDS:.0f} seconds",
                    hint="look for a process that hangs with the database open",
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _database_errors() -> tuple[type[Exception], ...]:
    """Return what MLflow raises, and SQLAlchemy, which is not imported for a server."""
    from mlflow.exceptions import MlflowException

    if "sqlalchemy" not in sys.modules:
        return (MlflowException,)
    from sqlalchemy.exc import DatabaseError

    return MlflowException, DatabaseError


def _database_of(function: Callable[..., object]) -> Path | None:
    """Return the embedded store's file, from a method of a client of it."""
    client = getattr(function, "__self__", None)
    return sqlite_path(getattr(client, "tracking_uri", ""))
