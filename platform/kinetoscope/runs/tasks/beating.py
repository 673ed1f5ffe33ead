"""Signs of life of the process that works for a start."""

from __future__ import annotations

import itertools

from kinetoscope.core.errors import StorageError
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.start import BEAT_SECONDS, RunStart
from kinetoscope.steps.repeating import Repeating


def beating(run: Run, start: RunStart) -> Repeating:
    """Let others see, from now on, that a start goes on, as long as it counts."""
    counts = itertools.count(1)

    def beat() -> None:
        run.check_latest(start)
        try:
            start.beat(next(counts))
        except OSError as error:
            # Nothing that ends the beat: there may be room again.
            raise StorageError(str(error)) from error

    return Repeating("the sign of life", beat, BEAT_SECONDS)
