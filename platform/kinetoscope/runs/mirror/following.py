"""Mirror a run's records into MLflow while somebody works for it.

The records in the object store are the truth; MLflow gets a copy. So a tracking server that is
slow, full, hanging or gone never holds a step up, and what it missed is added when it is back, by
whoever works for the run then, or when the run is resumed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kinetoscope.runs.mirror.mlflow_copy import MlflowCopy
from kinetoscope.steps.repeating import Following

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.runs.records import Run
    from kinetoscope.runs.starts.start import RunStart

# How long the end of a step, and that of a run, may take. MLflow itself takes seconds to import.
STEP_END_SECONDS = 20.0
RUN_END_SECONDS = 600.0

_SYNC_SECONDS = 5.0
# A server that has taken nothing for so long is not waited for.
_IDLE_SECONDS = 20.0


@contextmanager
def mirroring(
    run: Run, start: RunStart, *, end_seconds: float = STEP_END_SECONDS
) -> Iterator[None]:
    """Keep the copy of a run current meanwhile, and bring it up to date once more at the end.

    Any number of processes may do so for the same run. Nothing that ails MLflow is raised; once the
    start's end is on record, and MLflow has all, that is noted, too.

    Args:
        run: to be copied.
        start: that this process works for.
        end_seconds: that the end may take at the most.
    """
    copy = MlflowCopy(run, start)
    following = Following("MLflow is behind", lambda last: copy.sync(last=last), _SYNC_SECONDS)
    try:
        yield
    finally:
        following.finish(end_seconds, moved=lambda: copy.num_told, idle_seconds=_IDLE_SECONDS)


def mirror_end(run: Run, start: RunStart) -> None:
    """Tell MLflow all of a start that has ended, and how it ended, as far as MLflow answers."""
    with mirroring(run, start, end_seconds=RUN_END_SECONDS):
        pass
