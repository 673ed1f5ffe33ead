"""The state of a run and of its steps, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kinetoscope.core.errors import (
    CorruptError,
    DiskFullError,
    KinetoscopeError,
    NotFoundError,
    RefusedError,
)
from kinetoscope.core.full_disk import a_disk_was_full, full_disk
from kinetoscope.runs.find import list_runs
from kinetoscope.runs.jobs.told import job_row, with_job
from kinetoscope.runs.record_types import BEGIN, FINISH
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.signs_of_life import silence
from kinetoscope.runs.starts.words import list_words
from kinetoscope.steps.contract import ATTEMPTS, StepResult, StepStatus, make_again
from kinetoscope.steps.endings import ending_state
from kinetoscope.steps.ledger.entries import LedgerState
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.ledger.story import story
from kinetoscope.steps.results import read_members, read_result, read_status, step_state
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.records import damage_hint
from kinetoscope.storage.store import ObjectStore


def run_row(run: Run) -> dict[str, Any]:
    """Return one line of ``kino ls``: run, name, state, created_at, steps_done, num_steps."""
    return _row(run, _step_rows(run))


def run_rows(root_uri: str) -> list[dict[str, Any]]:
    """Return the `run_row` of all runs, the newest first.

    Where a record is damaged the state is ``damaged``, where the run never began, since what it was
    given was refused, ``refused``; ``reason`` and ``hint`` say more.
    """
    return [_row_or_damage(run) for run in list_runs(root_uri)]


def _row_or_damage(run: Run) -> dict[str, Any]:
    try:
        return run_row(run)
    except (CorruptError, RefusedError) as error:
        state = "refused" if isinstance(error, RefusedError) else "damaged"
        told = {"state": state, "reason": error.message, "hint": error.hint or ""}
        unknown = {"name": "?", "created_at": 0.0, "steps_done": 0, "num_steps": 0}
        return {"run": run.run_id, **unknown, **told}


def run_status(run: Run) -> dict[str, Any]:
    """Return a run's live state: ``run_row`` with every step's row."""
    steps = _step_rows(run)
    row, end = _row(run, steps), run.end()
    told = {"reason": end.reason, "hint": end.hint} if end else {"reason": "", "hint": ""}
    if row["state"] == "interrupted":
        error = interruption(run)
        told = {"reason": error.message, "hint": error.hint or ""}
    return {**row, **told, "steps": steps}


def _step_rows(run: Run) -> list[dict[str, Any]]:
    return [step_row(run, name) for name in run.record.steps]


def _row(run: Run, steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "name": run.record.name,
        "state": run.state(),
        "created_at": run.record.created_at,
        "steps_done": sum(step["state"] == "done" for step in steps),
        "num_steps": len(steps),
    }


def interruption(run: Run, *, disk_was_full: bool = False) -> KinetoscopeError:
    """Return what is known of a run whose processes are gone without having noted an end.

    Args:
        run: the run.
        disk_was_full: whether the exit code of its host told so; else the disk is looked at.
    """
    resume = f"kino resume {run.record.run_id} continues it"
    start = run.latest_start()
    if start.has_vanished():
        return KinetoscopeError(silence(start), hint=f"{resume}; if {start.host} lives, it stops")
    full = a_disk_was_full() if disk_was_full else full_disk()
    if full is not None:
        return DiskFullError(full.message, hint=f"{full.hint}; then {resume}")
    hint = f"{resume}; kino logs {run.record.run_id} may say more"
    rows = _step_rows(run)
    told = [f"step {row['name']} failed: {row['reason']}" for row in rows if row["reason"]]
    return KinetoscopeError((told or ["its processes are gone without a word"])[-1], hint=hint)


def checked_step(run: Run, name: str) -> str:
    """Return the name of a step that the run has; raises ``NotFoundError`` for another."""
    run.check_steps([name])
    return name


def step_row(run: Run, name: str) -> dict[str, Any]:
    """Return a step's name, state, seconds, attempts, cached, progress, reason and metrics_url.

    ``code_versions`` are those of its attempts, oldest first; ``job`` is what `runs.jobs` tells of
    a training job, while the step is not done.

    States are ``pending``, ``waiting``, ``running``, ``done``, ``failed``, ``stopped`` and
    ``interrupted`` (its processes are gone without a word).
    """
    row: dict[str, Any] = {
        "name": name,
        "state": "pending",
        "seconds": 0.0,
        "attempts": 0,
        "cached": False,
        "code_versions": [],
        "progress": {"done": 0, "total": 0, "unit": "", "info": {}},
        "reason": "",
        "metrics_url": "",
    }
    record = run.step(name)
    if record is None:
        return row
    row["cached"] = record.cached
    uri = run.step_uri(record)
    result = read_result(uri)
    if result is not None:
        row |= {"state": "done", "seconds": result.seconds, "attempts": result.generation}
        return row | {"code_versions": list(result.code_versions)}
    state = step_state(uri)
    row |= {"attempts": state.generation, "code_versions": list(state.code_versions)}
    status = read_status(uri, state)
    if status is None:
        row |= {"state": "waiting" if run.is_running() else "interrupted"}
    else:
        row |= _attempt_row(run, status, state) | _nodes(uri, status)
    return with_job(row, job_row(run, record))


def _attempt_row(run: Run, status: StepStatus, state: LedgerState) -> dict[str, Any]:
    told, reason = status.state, status.reason
    if state.ended is not None and told == "running":  # the status was not told to the end
        told, reason = ending_state(state.ended.code), state.ended.reason
    lost = told == "running" and not run.is_running()
    return {
        "state": "interrupted" if lost else told,
        "seconds": status.seconds,
        "progress": status.progress.model_dump(mode="json", exclude={"kept", "began"}),
        "reason": reason,
        "metrics_url": "" if lost else status.metrics_url,
    }


def _nodes(step_uri: str, status: StepStatus) -> dict[str, Any]:
    """Return ``num_nodes`` and, for each that has told of itself, ``nodes``, where it has several.

    Of a node that is its number, state, seconds, reason and metrics_url.
    """
    if status.num_nodes == 1:
        return {}
    told = [status, *read_members(step_uri, status)]
    shown = {"node", "state", "seconds", "reason", "metrics_url"}
    nodes = [node.model_dump(mode="json", include=shown) for node in told]
    return {"num_nodes": status.num_nodes, "nodes": nodes}


def step_history(run: Run, name: str) -> list[dict[str, Any]]:
    """Return what has happened to a step, as `steps.ledger.story` tells it.

    Raises:
        NotFoundError: the run has no such step, or has not come to it.
        CorruptError: the ledger is damaged.
    """
    record = run.step(checked_step(run, name))
    if record is None:
        raise NotFoundError(f"run {run.run_id} has not come to step {name} yet")
    with damage_hint(make_again(name, run.run_id)):
        return story(Ledger(open_store(run.step_uri(record))))


def step_results(run: Run) -> dict[str, StepResult]:
    """Return the committed results of a run's steps, by name."""
    results = {}
    for name in run.record.steps:
        record = run.step(name)
        result = read_result(run.step_uri(record)) if record is not None else None
        if result is not None:
            results[name] = result
    return results


@dataclass(frozen=True, slots=True)
class LogObject:
    """A log of a process, as far as it has been shipped."""

    store: ObjectStore
    key: str
    size_bytes: int

    @property
    def uri(self) -> str:
        """Where it lies."""
        return join_uri(self.store.uri, self.key)


def log_objects(run: Run, step: str | None) -> list[LogObject]:
    """Return a run's logs: those of one step or task, or of all that it ran itself.

    First come those of the processes that carried it, as on a laptop the host's log does; then the
    ranks' by step; both oldest first.
    """
    names = run.record.steps
    if step:
        names = [] if step in (BEGIN, FINISH) else [checked_step(run, step)]
    words = list_words(run.store, step)
    found = [LogObject(run.store, stat.key, stat.size_bytes) for stat in words]
    for name in names:
        record = run.step(name)
        if record is not None:
            store = open_store(run.step_uri(record))
            logs = store.list("logs")  # where earlier versions kept them
            logs += [stat for stat in store.list(ATTEMPTS) if "/logs/" in stat.key]
            found += [LogObject(store, stat.key, stat.size_bytes) for stat in logs]
    return found
