"""Delete a run and what only it made."""

from __future__ import annotations

from kinetoscope.core.errors import UserError
from kinetoscope.core.settings import Workspace
from kinetoscope.runs.records import Run, list_runs
from kinetoscope.steps.contract import RESULT_KEY
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore


def remove_run(run: Run, workspace: Workspace) -> int:
    """Delete a run's records, its log, and the steps that no other run refers to.

    Registered models live outside of steps and stay.

    Returns:
        The bytes that were freed.

    Raises:
        UserError: while any run of the workspace runs, since it may be about to use a step.
    """
    runs = list_runs(workspace.store_uri)
    for other in runs:
        if other.state() == "running":
            raise UserError(
                f"run {other.record.run_id} is running and may use what would be deleted",
                hint=f"wait for it, or kino stop {other.record.run_id}",
            )
    root = open_store(run.record.root_uri)
    run_id = run.record.run_id
    keys = _step_keys(run)
    for other in runs:
        if other.record.run_id != run_id:
            keys -= _step_keys(other)
    # The run's own records last, so that a removal that was cut short can be repeated.
    freed = sum(_remove_step(root, key) for key in sorted(keys))
    freed += _remove(root, f"runs/{run_id}")
    (workspace.root / "logs" / f"{run_id}.log").unlink(missing_ok=True)
    return freed


def _step_keys(run: Run) -> set[str]:
    records = [run.step(name) for name in run.record.steps]
    root = f"{run.record.root_uri}/"
    return {record.uri.removeprefix(root) for record in records if record is not None}


def _remove_step(root: ObjectStore, key: str) -> int:
    # The result first: a step that has one counts as done, whatever else is gone.
    result = f"{key}/{RESULT_KEY}"
    stat = root.stat(result)
    root.delete(result)
    return _remove(root, key) + (stat.size_bytes if stat else 0)


def _remove(root: ObjectStore, key: str) -> int:
    num_bytes = sum(stat.size_bytes for stat in root.list(key))
    root.delete_prefix(key)
    return num_bytes
