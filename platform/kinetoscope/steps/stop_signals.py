"""Being told to stop from outside, by a signal or by a file, from a process's first moment on.

The kernel drops a signal that PID 1 has no handler for, and a pod whose SIGTERM was lost lives for
its whole grace. So a supervisor catches signals before it imports anything that takes time, and
nothing of ours may be imported here. What is left is Python's own start: a pod's preStop hook makes
the file before the signal is sent, and files are not lost.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

STOPPED_CODE = 75
"""As `core.errors.ExitCode.PREEMPTED`; a test compares them."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_NOTHING_BEGUN = b"told to stop before anything was begun\n"


class StopSignals:
    """Keeps in mind that this process was told to stop.

    Until something is begun there is nothing to save: a signal ends the process at once then,
    whatever store it waits for.
    """

    def __init__(self) -> None:
        self._told = False
        self._at_work = False
        self._file: Path | None = None

    def catch(self) -> None:
        """Handle signals from now on."""
        for signum in _SIGNALS:
            signal.signal(signum, self._on_signal)

    def watch_file(self, path: Path | None) -> None:
        """Take a file's existence for a signal, too."""
        self._file = path

    @property
    def told(self) -> bool:
        """Whether this process was told to stop."""
        self._told = self._told or (self._file is not None and _is_there(self._file))
        return self._told

    def begin(self) -> None:
        """Let signals wait from now on: something is at work that has to end in order."""
        self._at_work = True

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Begin what is at work afterwards, unless this raises; see `begin`."""
        self.begin()
        try:
            yield
        except BaseException:
            self._at_work = False
            if self._told:
                self._end_at_once()
            raise

    def _on_signal(self, *_: object) -> None:
        self._told = True
        if not self._at_work:
            self._end_at_once()

    def _end_at_once(self) -> None:
        os.write(2, _NOTHING_BEGUN)
        os._exit(STOPPED_CODE)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # of a folder that may not be looked into
        return False
