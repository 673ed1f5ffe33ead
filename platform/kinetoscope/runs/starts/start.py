"""One start of a run. What it notes lies in a folder of its own, ``starts/NNNNNN/``.

Only the latest start counts: what an earlier one still writes, however late, nobody takes for
another's, and a new start has nothing to delete.

A start whose host runs here goes on as long as that process does. Of a process elsewhere nothing
is known but its beat: a host gives a sign of life every 15 seconds.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cached_property

from kinetoscope.core.errors import CorruptError
from kinetoscope.core.units import KIB
from kinetoscope.runs.record_types import Beat, End, Failure, Start
from kinetoscope.storage.open import place_of
from kinetoscope.storage.records import R, damage_hint, read_record, shown_name
from kinetoscope.storage.store import ObjectStore

BEAT_SECONDS = 15.0
# Without a sign of life for so long, by the clock, a host elsewhere is taken to be gone.
SILENT_SECONDS = 600.0

_END = "end.json"
_STOP = "stop.json"
_FAILURE = "failure.json"
_MIRRORED = "mirrored.json"
_BEAT = "beat.json"
_REPORT = "report.html"
_RESERVE = "reserve"
_RESERVE_BYTES = 256 * KIB


def start_key(number: int) -> str:
    """Return the key of a start's record below the run."""
    return f"starts/{number:06d}.json"


def way_out(run_id: str) -> str:
    """Return what to do where a record of a run is damaged."""
    return f"restore the file, or kino rm {run_id}: finished steps serve other runs"


class RunStart:
    """One time that a run was started or resumed, and what it noted.

    Args:
        store: of the run.
        run_id: of the run.
        root_uri: of the store that holds the run.
        number: of the start, from 1; 0 where the run was never started.
    """

    def __init__(self, store: ObjectStore, run_id: str, root_uri: str, number: int) -> None:
        self.run_id = run_id
        self.number = number
        self._store = store
        self._root_uri = root_uri

    @cached_property
    def record(self) -> Start | None:
        """Who runs it, read once; None where it is not on record."""
        if not self.number:
            return None
        record = self._read(start_key(self.number), Start)
        if record is not None and record.number not in (0, self.number):
            shown = shown_name(self._store, start_key(self.number))
            raise CorruptError(f"{shown} is of start {record.number}", hint=way_out(self.run_id))
        return record

    @property
    def stop_key(self) -> str:
        """Key, below the run, of what is there once somebody asked this start to stop."""
        return self._key(_STOP)

    @property
    def report_key(self) -> str:
        """Key of its report, below the run."""
        return self._key(_REPORT)

    @property
    def reserve_key(self) -> str:
        """Key, below the run, of what takes up the room that words of a full disk will need."""
        return self._key(_RESERVE)

    def launcher_key(self, step: str) -> str:
        """Return the key, below the run, of what the launcher of a step tells of its job."""
        return self._key(f"launchers/{step}.json")

    def reserve(self) -> None:
        """Take up some room, where the store lies on a disk that can be full."""
        if self._store.local_path(self.reserve_key) is not None:
            with suppress(OSError):  # it is full already
                # Nothing that a file system could pack.
                self._store.put_bytes(self.reserve_key, os.urandom(_RESERVE_BYTES))

    def release(self) -> None:
        """Give the room back, for the last words."""
        self._store.delete(self.reserve_key)

    def has_report(self) -> bool:
        """Tell whether its report was written."""
        return self._store.stat(self.report_key) is not None

    def request_stop(self) -> None:
        """Ask its steps to save and stop."""
        self._store.put_bytes(self.stop_key, b"{}")

    def stop_requested(self) -> bool:
        """Tell whether somebody asked it to stop."""
        return self._store.stat(self.stop_key) is not None

    def note_failure(self, failure: Failure) -> None:
        """Note why a step failed: what it says last counts."""
        self._store.put_bytes(self._failure_key(failure.step), failure.to_bytes())

    def forget_failure(self, step: str) -> None:
        """Note that a step which failed, and was tried again, did not fail after all."""
        self._store.delete(self._failure_key(step))

    def failure(self, step: str) -> Failure | None:
        """Return why a step failed, or None where it did not tell."""
        told = self._read(self._failure_key(step), Failure)
        if told is None:  # earlier versions kept the first reason alone
            told = self._read(self._key(_FAILURE), Failure)
        return told if told is not None and told.step == step else None

    def finish(self, end: End) -> None:
        """Note how it ended."""
        self._store.put_bytes(self._key(_END), end.to_bytes())

    def has_ended(self) -> bool:
        """Tell whether it is noted how it ended."""
        return self._store.stat(self._key(_END)) is not None

    def end(self) -> End | None:
        """Return how it ended, or None while it has not."""
        with damage_hint(f"kino resume {self.run_id} writes it anew"):
            return read_record(self._store, self._key(_END), End)

    def note_mirrored(self) -> None:
        """Note that MLflow has all of it."""
        self._store.put_bytes(self._key(_MIRRORED), b"{}")

    def is_mirrored(self) -> bool:
        """Tell whether MLflow has got all of it."""
        return self._store.stat(self._key(_MIRRORED)) is not None

    def keep_words(self, name: str, data: bytes) -> None:
        """Keep what a process has said so far."""
        self._store.put_bytes(self._key(f"logs/{name}.log"), data)

    def beat(self, count: int) -> None:
        """Give a sign of life of the host."""
        self._store.put_bytes(self._key(_BEAT), Beat(count=count, at=time.time()).to_bytes())

    def latest_beat(self) -> Beat | None:
        """Return the host's latest sign of life; a damaged one says as little as none."""
        try:
            return read_record(self._store, self._key(_BEAT), Beat)
        except CorruptError:
            return None

    def seen_at(self) -> float:
        """Return when its host gave its latest sign of life, by its own clock."""
        beat = self.latest_beat()
        began_at = self.record.started_at if self.record is not None else 0.0
        return began_at if beat is None else beat.at

    def is_running(self) -> bool:
        """Tell whether it goes on, as far as one look tells."""
        return self._may_run() and not self._is_silent()

    def has_vanished(self) -> bool:
        """Tell whether its host, elsewhere, gives no sign of life, as far as one look tells."""
        return self._may_run() and self._is_silent()

    @property
    def host(self) -> str:
        """Name of the machine that runs it."""
        return self.record.process.host if self.record is not None else ""

    @property
    def is_elsewhere(self) -> bool:
        """Whether its host is a process that can't be looked at from here."""
        return self.record is not None and not self.record.process.is_here()

    def _may_run(self) -> bool:
        record = self.record
        # In a copy of the workspace, or after a move, nobody runs what began elsewhere.
        if record is None or record.place != place_of(self._root_uri):
            return False
        process = record.process
        if process.is_known_dead() or (process.is_gone() and self._has_no_young_beat()):
            return False
        return not self.has_ended()

    def _is_silent(self) -> bool:
        if self.record is None or not self.is_elsewhere:
            return False
        # Either this machine was started anew since, or another one has its name.
        return self.record.process.is_gone() or self._has_no_young_beat()

    def _has_no_young_beat(self) -> bool:
        # One far ahead says no more than one far behind: the clock that it is of is wrong.
        return abs(time.time() - self.seen_at()) > SILENT_SECONDS

    def _failure_key(self, step: str) -> str:
        return self._key(f"failures/{step or 'run'}.json")

    def _key(self, name: str) -> str:
        return f"{self._folder}{name}"

    @cached_property
    def _folder(self) -> str:
        own = f"starts/{self.number:06d}/"
        try:
            record = self.record
        except CorruptError:
            return own
        # Earlier versions kept the notes of the latest start beside the run's record.
        noted_by_an_earlier_version = record is not None and not record.number
        return "" if not self.number or noted_by_an_earlier_version else own

    def _read(self, key: str, kind: type[R]) -> R | None:
        with damage_hint(way_out(self.run_id)):
            return read_record(self._store, key, kind)
