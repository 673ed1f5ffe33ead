"""Is anything left to do for a run that succeeded?"""

from __future__ import annotations

from kinetoscope.core.errors import CorruptError
from kinetoscope.core.settings import tracking_uri
from kinetoscope.core.uris import sqlite_path
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.view import step_results
from kinetoscope.steps.results import check_artifacts


def is_finished(run: Run) -> bool:
    """Tell whether a run succeeded and all that it made is there, in MLflow, too.

    Contents are not compared with their digests: that would be to read all of it.

    Raises:
        CorruptError: what a step made is gone or has another size, which going on would not mend.
    """
    try:
        start = run.latest_start()
        end = start.end()
        if end is None or end.state != "succeeded" or not _is_told(start):
            return False
        results = step_results(run)
        steps = run.record.steps
    except CorruptError:  # the run itself mends what is damaged, or tells of it
        return False
    if len(results) < len(steps) or any(run.fresh_requested(name) for name in steps):
        return False
    for result in results.values():
        check_artifacts(result, run.run_id)
    return True


def _is_told(start: RunStart) -> bool:
    """Tell whether a start has its report, and MLflow all of it."""
    database = sqlite_path(tracking_uri())
    lost = database is not None and not database.exists()
    return start.is_mirrored() and start.has_report() and not lost
