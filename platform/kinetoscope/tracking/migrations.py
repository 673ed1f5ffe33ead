"""MLflow's migrations, found wherever MLflow is installed.

MLflow gives Alembic their folder without quoting, and Alembic takes a ``%`` in it for the beginning
of a variable: no database could be opened by an MLflow that is installed below such a folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config


def find_migrations() -> None:
    """Let MLflow name its migrations by their package where their path can't be written."""
    from mlflow.store.db import utils

    if "%" in utils.__file__:
        utils._get_alembic_config = _alembic_config


def _alembic_config(db_url: str, alembic_dir: str | None = None) -> Config:  # noqa: ARG001 - MLflow's
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "mlflow:store/db_migrations")
    config.set_main_option("sqlalchemy.url", db_url.replace("%", "%%"))
    return config
