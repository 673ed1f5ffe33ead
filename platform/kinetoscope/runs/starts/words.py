"""What the processes of a start say, kept beside its other notes: their pods do not last.

Each has an object of its own, ``starts/NNNNNN/logs/<step>.<when>-<host>-<pid>.log``. On a laptop
all of this is in the host's log, and is not kept twice.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.settings import run_start
from kinetoscope.core.units import KIB
from kinetoscope.steps.repeating import Following
from kinetoscope.telemetry.logging_setup import log_formatter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.runs.starts.start import RunStart
    from kinetoscope.storage.store import ObjectStat, ObjectStore

_SHIP_SECONDS = 5.0
_END_SECONDS = 5.0
# Of the first words, and of the last ones.
_KEPT_BYTES = 256 * KIB
_KEY = re.compile(r"(?:starts/(\d{6})/)?logs/([^/.]+)\.([^/]+)\.log")


@contextmanager
def keeping_words(start: RunStart, step: str) -> Iterator[None]:
    """Keep with a start what this process logs meanwhile, and by what error it ends.

    A store that does not answer holds it up for some seconds at the most, and raises nothing.

    Args:
        start: that the process works for; one of number 0 where the run has none yet.
        step: that it works on, or another task of the pipeline.
    """
    if run_start() is not None:  # a host on this machine keeps the log
        yield
        return
    words = _Words()
    name = f"{step}.{_process_name()}"

    def ship(_: bool) -> None:
        if (data := words.not_shipped()) is not None:
            start.keep_words(name, data)
            words.shipped(data)

    following = Following("this log is not kept with the run", ship, _SHIP_SECONDS)
    logging.getLogger().addHandler(words)
    try:
        yield
    except BaseException as error:
        words.tell_error(error)
        raise
    finally:
        logging.getLogger().removeHandler(words)
        following.finish(_END_SECONDS)


def list_words(store: ObjectStore, step: str | None) -> list[ObjectStat]:
    """Return the logs that processes of a run have left, oldest first.

    Args:
        store: of the run.
        step: that they worked on; None: any.
    """
    found = []
    for stat in [*store.list("logs"), *store.list("starts")]:
        match = _KEY.fullmatch(stat.key)
        if match and step in (None, match[2]):
            found.append((int(match[1] or 0), match[3], stat))
    return [stat for *_, stat in sorted(found, key=lambda one: one[:2])]


class _Words(logging.Handler):
    """Holds the first and the last of what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(log_formatter())
        self._first = bytearray()
        self._last = bytearray()
        self._num_left_out = 0
        self._shipped = b""

    def emit(self, record: logging.LogRecord) -> None:
        """Hold what a record says; the handler's lock is held."""
        line = self.format(record).encode(errors="backslashreplace")[:_KEPT_BYTES] + b"\n"
        if not self._last and len(self._first) + len(line) <= _KEPT_BYTES:
            self._first += line
            return
        self._last += line
        if len(self._last) > 2 * _KEPT_BYTES:
            cut = self._last.index(b"\n", len(self._last) - _KEPT_BYTES - 1) + 1
            self._num_left_out += self._last.count(b"\n", 0, cut)
            del self._last[:cut]

    def tell_error(self, error: BaseException) -> None:
        """Hold what ends the process, which whoever called it will show."""
        hint = (
            f" (hint: {error.hint})" if isinstance(error, KinetoscopeError) and error.hint else ""
        )
        told = f"{type(error).__name__}: {error}{hint}"
        trace = None if isinstance(error, KinetoscopeError) else sys.exc_info()
        self.handle(logging.LogRecord(__name__, logging.ERROR, "", 0, told, (), trace))

    def not_shipped(self) -> bytes | None:
        """Return all that is held, or None where that was shipped."""
        self.acquire()
        try:
            left_out = f"... {self._num_left_out} lines are left out ...\n" * bool(
                self._num_left_out
            )
            held = bytes(self._first + left_out.encode() + self._last)
        finally:
            self.release()
        return None if held == self._shipped else held

    def shipped(self, data: bytes) -> None:
        """Note what was shipped."""
        self._shipped = data


def _process_name() -> str:
    """Return a name that tells this process from others, of which the later ones sort later."""
    when = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    return f"{when}-{host}-{os.getpid()}"
