"""What is told of a step's end where none of its processes left a reason."""

from __future__ import annotations

from kinetoscope.core.errors import ExitCode
from kinetoscope.core.full_disk import a_disk_was_full

_STOPPED = "told to stop; what was saved before is kept"
OFTEN_MEMORY = "-9 (killed without a word) is often a lack of memory"


def untold_end(code: int, what_ended: str) -> tuple[str, str]:
    """Return reason and hint of an attempt of which there is only an exit code.

    Args:
        code: the attempt's.
        what_ended: what is known else, e.g. ``the ranks ended with [-9]``.
    """
    if code == ExitCode.PREEMPTED:
        return _STOPPED, ""
    if code == ExitCode.DISK_FULL:
        full = a_disk_was_full()
        return full.message, full.hint or ""
    return what_ended, f"see the log; {OFTEN_MEMORY}"
