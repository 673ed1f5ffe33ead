"""Which process did something, and whether it is gone."""

from __future__ import annotations

import socket
from typing import Self

import psutil

from kinetoscope.core.config_model import Record

# Processes compute a start time from the time of boot, which the kernel gives in whole seconds and
# which moves with the clock: two of them may differ by a second about the same process.
_SAME_START_SECONDS = 5.0


class ProcessIdentity(Record):
    """A process, told apart from a later one with the same number."""

    host: str
    pid: int
    started_at: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, pid: int | None = None) -> Self:
        """Return the identity of a process of this machine; by default of this one."""
        process = psutil.Process(pid)
        return cls(host=socket.gethostname(), pid=process.pid, started_at=process.create_time())

    def is_known_dead(self) -> bool:
        """Tell whether it ran on this machine and is gone; of other machines nothing is known."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            started_at = process.create_time()
            if process.status() == psutil.STATUS_ZOMBIE:  # ended, and nobody has taken note yet
                return True
        except psutil.NoSuchProcess:
            return True
        return abs(started_at - self.started_at) > _SAME_START_SECONDS
