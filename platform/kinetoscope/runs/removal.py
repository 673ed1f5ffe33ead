"""Delete a run and what only it made."""

from __future__ import annotations

from kinetoscope.core.errors import CorruptError, UserError
from kinetoscope.core.settings import Workspace
from kinetoscope.runs.find import list_runs
from kinetoscope.runs.records import RUNS, Run
from kinetoscope.steps.contract import RESULT_KEY, STEPS
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore


def remove_run(run: Run, workspace: Workspace) -> int:
    """Delete a run's records, its log, and the steps that no other run refers to.

    Registered models live outside of steps and stay. Nothing outside of the workspace's own store
    is touched. Steps that a damaged record may name stay.

    Returns:
        The bytes that were freed.

    Raises:
        UserError: while any run of the workspace runs, since it may be about to use a step.
    """
    others = [other for other in list_runs(workspace.store_uri) if other.run_id != run.run_id]
    for other in (run, *others):
        if _runs(other):
            raise UserError(
                f"run {other.run_id} is running and may use what would be deleted",
                hint=f"wait for it, or kino stop {other.run_id}",
            )
    root = open_store(workspace.store_uri)
    keys, _ = _steps(run)
    for other in others:
        used, unknown = _steps(other)
        keys -= used | {key for key in keys if key.split("/")[1] in unknown}
    # The run's own records last, so that a removal that was cut short can be repeated.
    freed = sum(_remove_step(root, key) for key in sorted(keys))
    freed += _remove(root, f"{RUNS}/{run.run_id}")
    (workspace.root / "logs" / f"{run.run_id}.log").unlink(missing_ok=True)
    return freed


def _runs(run: Run) -> bool:
    try:
        return run.is_running()
    except CorruptError:  # what it refers to stays, see below
        return False


def _steps(run: Run) -> tuple[set[str], set[str]]:
    """Return the keys of all steps that a run ever had, and the names of those with damage."""
    keys: set[str] = set()
    unknown: set[str] = set()
    for stat in run.store.list(STEPS):
        name = stat.key.removeprefix(f"{STEPS}/").removesuffix(".json")
        try:
            record = run.step(name)
        except CorruptError:
            unknown.add(name)
        else:
            keys |= {record.key, *record.before} if record is not None else set()
    return {key for key in keys if key.startswith(f"{STEPS}/")}, unknown


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
