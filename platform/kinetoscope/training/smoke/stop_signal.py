"""SIGTERM, noticed at once even while the process waits in a library."""

from __future__ import annotations

import os
import signal
import threading

from kinetoscope.core.errors import ExitCode


class StopSignal:
    """Ends the process on SIGTERM, or remembers it once there is something to finish.

    A thread of its own takes the signal: Python runs handlers in the main thread alone, which may
    sit in torch's rendezvous for minutes. A process of its own, PID 1 of a pod, would not even be
    ended by a signal without a handler. Has to be made before any other thread is started.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._graceful = threading.Event()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=self._wait, name="stop-signal", daemon=True).start()

    @property
    def requested(self) -> bool:
        """Whether SIGTERM has come."""
        return self._requested.is_set()

    def remember(self) -> None:
        """From now on just remember the signal: the caller asks for it and ends in order."""
        self._graceful.set()

    def sleep(self, seconds: float) -> None:
        """Sleep; the signal ends it early."""
        self._requested.wait(seconds)

    def _wait(self) -> None:
        while True:
            signal.sigwait({signal.SIGTERM})
            if not self._graceful.is_set():
                # Nothing was begun that could be saved.
                os._exit(ExitCode.PREEMPTED)
            self._requested.set()
