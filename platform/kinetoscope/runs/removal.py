"""Delete a run and what only it made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from kinetoscope.core.errors import CorruptError
from kinetoscope.core.settings import Workspace
from kinetoscope.runs.find import list_runs
from kinetoscope.runs.records import RUNS, Run
from kinetoscope.runs.starts.signs_of_life import find_running, still_running
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.steps.contract import RESULT_KEY, STEPS
from kinetoscope.steps.ledger.ledger import LEDGER
from kinetoscope.steps.scratch import sweep
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore


def remove_run(run: Run, workspace: Workspace, tell: Callable[[str], None]) -> int:
    """Delete a run's records, its log, and the steps that no other run refers to.

    Registered models live outside of steps and stay. Nothing outside of the workspace's own store
    is touched. Steps that a damaged record may name stay. What killed processes left in the
    workspace's scratch goes, too.

    Args:
        run: to delete.
        workspace: that keeps it.
        tell: called with a sentence when hosts that were silent for long are watched first.

    Returns:
        The bytes that were freed.

    Raises:
        UserError: while any run of the workspace runs, since it may be about to use a step.
    """
    others = [other for other in list_runs(workspace.store_uri) if other.run_id != run.run_id]
    running = find_running(_starts([run, *others]), tell)
    if running is not None:
        raise still_running(running, "and may use what would be deleted")
    root = open_store(workspace.store_uri)
    keys, _ = _steps(run)
    for other in others:
        used, unknown = _steps(other)
        keys -= used | {key for key in keys if key.split("/")[1] in unknown}
    # The run's own records last, so that a removal that was cut short can be repeated.
    places = [join_uri(workspace.store_uri, key) for key in sorted(keys)]
    freed = sum(remove_step(open_store(place)) for place in places)
    freed += _remove(root, f"{RUNS}/{run.run_id}")
    (workspace.root / "logs" / f"{run.run_id}.log").unlink(missing_ok=True)
    sweep(workspace.scratch_path)
    return freed


def remove_step(store: ObjectStore) -> int:
    """Delete all of a step, so that one of which only a part is gone can be begun again.

    Its ledger goes back entry by entry. The first one goes last: without a ledger, a step of which
    anything is left is refused.

    Args:
        store: of the step.

    Returns:
        The bytes that were freed.
    """
    stats = store.list()
    # The result first: a step that has one counts as done, whatever else is gone.
    store.delete(RESULT_KEY)
    # Its copy, fold.json, comes after the entries in the list.
    for stat in reversed(store.list(LEDGER)[1:]):
        store.delete(stat.key)
    names = {stat.key.partition("/")[0] for stat in stats}
    for name in [*sorted(names - {LEDGER}), LEDGER]:
        store.delete_prefix(name)
    return sum(stat.size_bytes for stat in stats)


def _starts(runs: Iterable[Run]) -> list[RunStart]:
    """Return the latest start of each run, but of those with a damaged one: see `_steps`."""
    starts = []
    for run in runs:
        start = run.latest_start()
        with suppress(CorruptError):
            start.record  # noqa: B018 - reads it
            starts.append(start)
    return starts


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


def _remove(root: ObjectStore, key: str) -> int:
    num_bytes = sum(stat.size_bytes for stat in root.list(key))
    root.delete_prefix(key)
    return num_bytes
