"""Does any of these runs go on? Asked before something is done that none of them would survive."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from kinetoscope.core.errors import UserError
from kinetoscope.core.units import format_utc
from kinetoscope.runs.starts.start import BEAT_SECONDS, SILENT_SECONDS, RunStart

# A host beats at least twice meanwhile.
_WATCH_SECONDS = 2 * BEAT_SECONDS + 5
_LOOK_SECONDS = 1.0


def find_running(
    starts: Sequence[RunStart],
    tell: Callable[[str], None],
    *,
    watch_seconds: float = _WATCH_SECONDS,
) -> RunStart | None:
    """Return the first of these starts that goes on, or None.

    Clocks of machines differ: that a host elsewhere was silent for long is believed once it was
    silent for a while by this process's own clock, too.

    Args:
        starts: the latest ones of runs.
        tell: called with a sentence when one has to wait.
        watch_seconds: how long to watch hosts that were silent.
    """
    for start in starts:
        if start.is_running():
            return start
    silent = [start for start in starts if start.has_vanished()]
    if silent:
        tell(f"{'; '.join(map(silence, silent))}: watching for {watch_seconds:.0f} s more")
        return _watch(silent, watch_seconds)
    return None


def still_running(start: RunStart, what_for: str = "") -> UserError:
    """Return the refusal to do what a run that goes on would not survive.

    Args:
        start: of the run, which goes on.
        what_for: what the run may yet do with what would be lost, e.g. ``and may use it``.
    """
    run_id = start.run_id
    told = f"run {run_id} is still running"
    hint = f"kino status {run_id} shows it, kino stop {run_id} stops it"
    if start.is_elsewhere:
        told += f" on {start.host}, which gave a sign of life at {format_utc(start.seen_at())},"
        minutes = SILENT_SECONDS / 60
        hint += f"; if {start.host} is gone, wait until it was silent for {minutes:.0f} minutes"
    return UserError(f"{told} {what_for}".rstrip(" ,"), hint=hint)


def silence(start: RunStart) -> str:
    """Return what is told of a start whose host gives no sign of life."""
    return f"its host {start.host} gave no sign of life since {format_utc(start.seen_at())}"


def _watch(silent: Sequence[RunStart], seconds: float) -> RunStart | None:
    """Return the first of the starts whose host gives a sign of life within so many seconds."""
    before = [start.latest_beat() for start in silent]
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        time.sleep(_LOOK_SECONDS)
        for start, beat in zip(silent, before, strict=True):
            if start.latest_beat() != beat and not start.has_ended():
                return start
    return None
