"""What a pod's log shows of its ranks, which write to files.

`kubectl logs`, and the last lines that Kubernetes keeps of a pod that failed, are what this process
writes to its stdout.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from kinetoscope.core.errors import ExitCode
from kinetoscope.steps.ranks import Ranks, worst_code

_POLL_SECONDS = 0.2
_CHUNK_BYTES = 1 << 16
_WRITE_BYTES = 1 << 12
# At the end, whoever reads may be slow; one that reads nothing for so long reads no more.
_PATIENCE_SECONDS = 5.0
_CLOSE_SECONDS = 60.0
_LAST_LINES = 30
_STDOUT = 1
_NO_FAILURE = (ExitCode.DONE, ExitCode.PREEMPTED, ExitCode.LOST_PEER, ExitCode.WITHDRAWN)


class PodLog:
    """Copies a growing log to a file descriptor, line by line, until it is closed.

    It does so in a thread of its own: a pipe that nobody reads holds up nothing but that.

    Args:
        path: of the log, which is there.
        out: the file descriptor.
    """

    def __init__(self, path: Path, out: int = _STDOUT) -> None:
        self._log = path.open("rb", buffering=0)
        self._out = out
        self._rest = b""
        self._num_written = 0
        self._last_words = b""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="the pod's log", daemon=True)
        self._thread.start()

    def close(self, last_words: bytes = b"") -> None:
        """Write what is left and then the last words, as long as somebody reads them.

        A second call does nothing.
        """
        if self._closing.is_set():
            return
        self._last_words = last_words
        self._closing.set()
        deadline = time.monotonic() + _CLOSE_SECONDS
        seen = -1
        while self._thread.is_alive() and seen != self._num_written and time.monotonic() < deadline:
            seen = self._num_written
            self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        try:
            with self._log:
                while not self._closing.is_set():
                    if not self._copy():
                        self._closing.wait(_POLL_SECONDS)
                while self._copy():
                    pass
                rest = self._rest + b"\n" if self._rest else b""
                self._write(rest + self._last_words)
        except OSError:  # nobody is there any more to read it
            return

    def _copy(self) -> bool:
        """Copy the next whole lines; tell whether the log had grown."""
        chunk = self._log.read(_CHUNK_BYTES)
        data = self._rest + chunk
        end = data.rfind(b"\n") + 1 or (len(data) if len(data) >= _CHUNK_BYTES else 0)
        self._rest = data[end:]
        self._write(data[:end])
        return bool(chunk)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                written = os.write(self._out, data[:_WRITE_BYTES])
            except BlockingIOError:
                time.sleep(_POLL_SECONDS)
                continue
            self._num_written += written
            data = data[written:]


def rank_log(logs: Path, number: int) -> Path:
    """Return the path of a rank's log."""
    return logs / f"rank-{number}.log"


def lines_of_cause(logs: Path, code: int, ranks: Ranks) -> bytes:
    """Return the last lines of a rank that is the cause of a failure, marked with its number.

    Nothing where that is the first rank, whose log the pod's log shows.

    Args:
        logs: folder of the ranks' logs.
        code: that the node's ranks, all of which have ended, came to.
        ranks: of the node.
    """
    ends = ranks.own_ends().items()
    causes = [number for number, end in ends if worst_code([end], told_to_stop=True) == code]
    if code in _NO_FAILURE or not causes or ranks.numbers[0] in causes:
        return b""
    return _marked_last_lines(rank_log(logs, causes[0]), f"[rank {causes[0]}]")


def _marked_last_lines(path: Path, mark: str) -> bytes:
    with path.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - _CHUNK_BYTES))
        lines = log.read(_CHUNK_BYTES).splitlines()[-_LAST_LINES:]
    return b"".join(b"%s %s\n" % (mark.encode(), line) for line in lines)
