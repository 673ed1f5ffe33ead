"""One run of MLflow for one thing, also where several processes look for it at the same moment.

A server knows no lock that they could share. So each looks, makes one where there is none, and
looks again: of several, all take the oldest, and whoever sees a younger one takes it away. A
process that wrote to it meanwhile is told so, looks again, and writes the same to the other.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kinetoscope.tracking.database import call
from kinetoscope.tracking.runs.experiment import is_final
from kinetoscope.tracking.runs.tags import MADE_TAG, PARENT_TAG, RUN_TAG, STEP_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Run

_PER_PAGE = 100

_log = logging.getLogger(__name__)


def find_oldest(
    client: MlflowClient, experiments: Sequence[str], tags: Mapping[str, str]
) -> Run | None:
    """Return the oldest run with the tags, or None."""
    return min(_search(client, experiments, tags), key=_age, default=None)


def settle(
    client: MlflowClient,
    experiments: Sequence[str],
    tags: Mapping[str, str],
    make: Callable[[], Run],
) -> Run:
    """Return the one run with the tags, made where there is none.

    Args:
        client: of the tracking store.
        experiments: to look in.
        tags: that tell it from all others.
        make: makes one with the tags, or gives them to one.
    """
    found = _search(client, experiments, tags)
    if not found:
        made = make()
        found = _search(client, experiments, tags) or [made]
    oldest, *others = sorted(found, key=_age)
    for other in others:
        _log.info("%s has the MLflow run %s: %s goes", tags, oldest.info.run_id, other.info.run_id)
        _take_away(client, other)
    return oldest


def _age(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id


def _search(client: MlflowClient, experiments: Sequence[str], tags: Mapping[str, str]) -> list[Run]:
    clauses = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
    found: list[Run] = []
    token = None
    while True:
        page = call(
            client.search_runs,
            list(experiments),
            filter_string=" and ".join(clauses),
            max_results=_PER_PAGE,
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def _take_away(client: MlflowClient, run: Run) -> None:
    """Delete a run that we made, with those nested in it; take our name off another."""
    tracked = run.info.run_id
    if STEP_TAG not in run.data.tags:
        for nested in _search(client, [run.info.experiment_id], {PARENT_TAG: tracked}):
            if STEP_TAG in nested.data.tags:
                _take_away(client, nested)
    if MADE_TAG in run.data.tags:
        _unless_gone(client.delete_run, tracked)
    else:
        name = STEP_TAG if STEP_TAG in run.data.tags else RUN_TAG
        _unless_gone(client.delete_tag, tracked, name)


def _unless_gone(function: Callable[..., None], *args: str) -> None:
    """Call a client's method; that another process was faster does not matter."""
    from mlflow.exceptions import MlflowException

    try:
        call(function, *args)
    except MlflowException as error:
        if not is_final(error):
            raise
