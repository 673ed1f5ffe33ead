"""Finding runs: by URI, by name, or all of them."""

from __future__ import annotations

import re

from kinetoscope.core.errors import CorruptError, NotFoundError, RefusedError
from kinetoscope.core.ids import run_id_of
from kinetoscope.core.settings import workspace
from kinetoscope.runs.records import RECORD_KEY, REFUSAL_KEY, RUNS, Run
from kinetoscope.storage.keys import split_uri
from kinetoscope.storage.open import open_store

# A process that did not hear of its run's end may leave deeper ones, which make no run.
_OF_A_RUN = re.compile(rf"{RUNS}/([^/]+)/({RECORD_KEY}|{REFUSAL_KEY}|starts/[^/]+|steps/[^/]+)")
_OF_A_BACKEND = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_START_ONE = "start one with kino run"
_NAME_IT = "name the run that you mean: kino ls lists them"


def open_run(run_uri: str) -> Run:
    """Open the records at a run's URI."""
    root_uri, key = split_uri(run_uri, RUNS)
    return Run(root_uri, key.removeprefix(f"{RUNS}/"))


def list_runs(root_uri: str) -> list[Run]:
    """Return all runs, the newest first; those whose record is damaged come last."""
    runs = [Run(root_uri, run_id) for run_id in _run_ids(root_uri)]
    return sorted(runs, key=_created_at, reverse=True)


def find_run(root_uri: str, name: str) -> Run:
    """Return a run by its id, a unique prefix of it, or ``last``; raises ``NotFoundError``.

    One that Kubeflow started is found by the id that it has there, too.
    """
    ids = _run_ids(root_uri)
    if _OF_A_BACKEND.fullmatch(name):
        name = run_id_of(name)
    if name == "last" and ids:
        return _last(root_uri, ids)
    matching = [run_id for run_id in ids if name and run_id.startswith(name)]
    found = [name] if name in ids else matching
    if len(found) == 1:
        return Run(root_uri, found[0])
    if not ids:
        raise _no_run(root_uri, name)
    told = ", ".join((found or ids)[:10])
    what = f"{len(found)} runs match" if found else "there is no run"
    raise NotFoundError(f"{what} {name!r} in {root_uri}", hint=f"runs: {told}")


def _no_run(root_uri: str, name: str) -> NotFoundError:
    absence = workspace().absence
    if absence is None:
        return NotFoundError(f"there is no run {name!r} in {root_uri}", hint=_START_ONE)
    return NotFoundError(
        f"there is no run {name!r}: {absence}",
        hint=f"{_START_ONE}, or let KINO_WORKSPACE name the workspace that has it",
    )


def _last(root_uri: str, ids: list[str]) -> Run:
    try:
        return max((Run(root_uri, run_id) for run_id in ids), key=_began_at)
    except CorruptError as error:
        told = f"which run is the last can't be told: {error.message}"
        raise CorruptError(told, hint=_NAME_IT) from error


def _began_at(run: Run) -> float:
    try:
        return run.record.created_at
    except RefusedError:  # it never did
        return 0.0


def _run_ids(root_uri: str) -> list[str]:
    """Return the ids of all runs: also of those that have lost their record."""
    found = (_OF_A_RUN.fullmatch(stat.key) for stat in open_store(root_uri).list(RUNS))
    return sorted({match[1] for match in found if match})


def _created_at(run: Run) -> float:
    try:
        return _began_at(run)
    except CorruptError:
        return 0.0
