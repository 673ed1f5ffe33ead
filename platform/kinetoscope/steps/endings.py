"""What is told of a step's end where none of its processes left a reason."""

from __future__ import annotations

from kinetoscope.core.errors import ExitCode
from kinetoscope.core.full_disk import a_disk_was_full
from kinetoscope.core.machine_limits import memory_limit_bytes
from kinetoscope.core.units import format_bytes
from kinetoscope.steps.contract import StepState

_STATES: dict[int, StepState] = {
    ExitCode.DONE: "done",
    ExitCode.PREEMPTED: "stopped",
    ExitCode.WITHDRAWN: "stopped",
}
_STOPPED = "told to stop; what was saved before is kept"
_LOST = "lost a peer: a rank of another node has ended, or the network between them broke"
# Ends that others lead to, or that somebody asked for: whoever starts the step again does so for
# free.
FREE = (ExitCode.PREEMPTED, ExitCode.LOST_PEER)
RAISE_MEMORY = "raise the memory limit, or make the micro-batch smaller"
OFTEN_MEMORY = "-9 (killed without a word) is often a lack of memory"


def ending_state(code: int) -> StepState:
    """Return the state that an attempt with this exit code has come to."""
    return _STATES.get(code, "failed")


def untold_end(code: int, what_ended: str) -> tuple[str, str]:
    """Return reason and hint of an attempt of which there is only an exit code.

    Args:
        code: the attempt's.
        what_ended: what is known else, e.g. ``the ranks ended with [-9]``.
    """
    if code in (ExitCode.PREEMPTED, ExitCode.WITHDRAWN):
        return _STOPPED, ""
    if code == ExitCode.LOST_PEER:
        return _LOST, "the log of the node that ended first says why"
    if code == ExitCode.DISK_FULL:
        full = a_disk_was_full()
        return full.message, full.hint or ""
    return what_ended, f"see the log; {OFTEN_MEMORY}"


def out_of_memory(killed: str) -> tuple[str, str]:
    """Return reason and hint where the kernel killed a process for want of memory.

    Args:
        killed: what it was, e.g. ``rank 1``.
    """
    limit = memory_limit_bytes()
    where = (
        f"at the limit of {format_bytes(limit[0])}" if limit else "since the machine has no more"
    )
    return f"out of memory: {killed} was killed {where}", RAISE_MEMORY
