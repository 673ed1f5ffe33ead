"""Which process did something, and whether it is gone."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Self

import psutil

from kinetoscope.core.config_model import Record
from kinetoscope.core.settings import pod_uid

# Processes compute a start time from the time of boot, which the kernel gives in whole seconds and
# which moves with the clock: two of them may differ by a second about the same process.
_SAME_START_SECONDS = 5.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
# The first one of a kernel has this number always: include/linux/proc_ns.h, PROC_PID_INIT_INO.
_OF_THE_MACHINE = "pid:[4026531836]"


class ProcessIdentity(Record):
    """A process, told apart from a later one with the same number, and from one elsewhere.

    Pods of a job keep host name and number over restarts, so neither tells a living holder from a
    dead one: the namespace that a number counts in does.
    """

    host: str
    pid: int
    started_at: float
    """Seconds since the epoch."""
    boot_id: str = ""
    """Of the kernel since it began to run; empty where that is not told."""
    pid_namespace: str = ""
    pod_uid: str = ""

    @classmethod
    def of(cls, pid: int | None = None) -> Self:
        """Return the identity of a process of this machine; by default of this one."""
        process = psutil.Process(pid)
        return cls(pid=process.pid, started_at=process.create_time(), **_place())

    def is_here(self) -> bool:
        """Tell whether its number counts in the same place as this process's."""
        return all(getattr(self, name) == value for name, value in _place().items())

    def is_known_dead(self) -> bool:
        """Tell whether it ran here and is gone; of other machines and pods nothing is known."""
        if not self.is_here():
            return False
        try:
            process = psutil.Process(self.pid)
            started_at = process.create_time()
            if process.status() == psutil.STATUS_ZOMBIE:  # ended, and nobody has taken note yet
                return True
        except psutil.NoSuchProcess:
            return True
        return abs(started_at - self.started_at) > _SAME_START_SECONDS

    def is_gone(self) -> bool:
        """Tell whether it is known to be dead, or ran here before this machine was started anew.

        Another machine of the same name may be meant: enough to tell people that a run has ended,
        too little to take a lease.
        """
        changed = {name for name, value in _place().items() if getattr(self, name) != value}
        rebooted = changed == {"boot_id"} and self.pid_namespace == _OF_THE_MACHINE
        return self.is_known_dead() or (rebooted and bool(self.boot_id))


def _place() -> dict[str, str]:
    """Return what tells the place that this process's number counts in."""
    return {
        "host": socket.gethostname(),
        "boot_id": _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "",
        "pid_namespace": str(_PID_NAMESPACE.readlink()) if _PID_NAMESPACE.exists() else "",
        "pod_uid": pod_uid(),
    }
