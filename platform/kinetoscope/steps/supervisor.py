"""The supervisor of a step: ``python -m kinetoscope.steps.supervisor SPEC_URI``.

Takes the step's lease, runs its ranks, passes SIGTERM on with a grace period of its own choosing,
keeps ``status.json`` current, ships logs and metrics, and exits with the worst rank's code. It is
PID 1 of a training pod and the same command on a laptop.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from kinetoscope.core.errors import (
    DiskFullError,
    ExitCode,
    KinetoscopeError,
    PreemptedError,
    StorageError,
    SupersededError,
)
from kinetoscope.core.full_disk import disk_full_error
from kinetoscope.core.settings import workspace
from kinetoscope.steps.attempts import acquire, check_generation
from kinetoscope.steps.contract import (
    STATUS_KEY,
    Progress,
    Report,
    StepSpec,
    StepState,
    StepStatus,
    read_spec,
    stop_requested,
)
from kinetoscope.steps.endings import untold_end
from kinetoscope.steps.rank_environment import one_node
from kinetoscope.steps.ranks import Ranks
from kinetoscope.steps.repeating import Repeating, persist
from kinetoscope.steps.scratch import make_scratch
from kinetoscope.steps.watch import Stall, watch
from kinetoscope.storage.open import open_store
from kinetoscope.telemetry.logging_setup import setup_logging

_LOOK_SECONDS = 1.0
_BEAT_SECONDS = 2.0
# How long the end is told again to a store that does not answer.
_END_SECONDS = 60.0
# A log is shipped whole each time: one that has grown big, so much more rarely.
_SHIP_BYTES_PER_SECOND = 1 << 20

_log = logging.getLogger(__name__)

_STATES: dict[ExitCode, StepState] = {ExitCode.DONE: "done", ExitCode.PREEMPTED: "stopped"}


class Supervisor:
    """One attempt of a step."""

    def __init__(self, spec: StepSpec, spec_uri: str) -> None:
        self._spec = spec
        self._spec_uri = spec_uri
        self._store = open_store(spec.uri)
        self._parent = os.getppid()
        self._host_pid = int(os.environ.get("KINO_HOST_PID", "0"))
        self._told_to_stop = False
        self._shipped: dict[Path, int] = {}
        self._ship_at: dict[Path, float] = {}
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._on_signal)

    def run(self) -> ExitCode:
        """Run an attempt, unless the step has a result already; return the exit code."""
        generation = acquire(self._store, self._spec, self._should_stop)
        if generation is None:
            return ExitCode.DONE
        self._generation = generation
        self._started_at = time.time()
        self._beats = 0
        name = f"{self._spec.name}-{self._spec.fingerprint}-{generation}"
        self._path = make_scratch(workspace().scratch_path, name)
        self._write_status("running")
        ranks = self._start_ranks()
        full: DiskFullError | None = None
        try:
            code = self._watch(ranks)
            ranks.close()
            self._tell_end(code, ranks.codes())
        except SupersededError as error:
            _log.error("%s", error.message)
            return error.exit_code
        except OSError as error:
            full = disk_full_error(error)
            if full is None:
                raise
            code = full.exit_code
        finally:
            ranks.close()
            shutil.rmtree(self._path, ignore_errors=True)
        if full is not None:  # told now that the attempt's own files are gone: there may be room
            self._write_disk_full(full)
        return code

    def _start_ranks(self) -> Ranks:
        runtime = self._spec.runtime
        return Ranks(
            [self._spec.worker],
            one_node(runtime.num_processes),
            variables={
                "KINO_SPEC_URI": self._spec_uri,
                "KINO_GENERATION": str(self._generation),
                "KINO_ATTEMPT_PATH": str(self._path),
            },
            logs=self._path / "logs",
            threads=runtime.threads_per_process,
        )

    def _watch(self, ranks: Ranks) -> ExitCode:
        """Wait for the ranks; all that asks or tells the store goes on beside it."""
        marks = [self._path / name for name in ("progress.json", "metrics.jsonl")]
        stall = Stall(marks, self._spec.runtime.stall_seconds)
        beating = Repeating("the heartbeat", self._beat, _BEAT_SECONDS)
        beside = [
            beating,
            Repeating("shipping logs", self._ship, _BEAT_SECONDS),
            Repeating("looking for a stop", self._look_for_stop, _LOOK_SECONDS),
        ]

        def is_stuck(now: float) -> bool:
            for work in beside:
                work.check()
            return stall.is_stuck(now)

        try:
            return watch(
                ranks,
                should_stop=self._is_told_to_stop,
                grace_seconds=self._spec.runtime.grace_seconds,
                is_stuck=is_stuck,
            )
        finally:
            for work in beside:
                work.stop()

    def _is_told_to_stop(self) -> bool:
        """Tell whether a signal came, a stop was asked for, or whoever started us died."""
        orphaned = os.getppid() != self._parent or not _is_alive(self._host_pid)
        self._told_to_stop = self._told_to_stop or orphaned
        return self._told_to_stop

    def _should_stop(self) -> bool:
        """Tell the same, and ask the store for it: before there are ranks."""
        if not self._is_told_to_stop():
            self._look_for_stop()
        return self._told_to_stop

    def _look_for_stop(self) -> None:
        self._told_to_stop = self._told_to_stop or stop_requested(self._spec)

    def _on_signal(self, *_: object) -> None:
        self._told_to_stop = True

    def _beat(self) -> None:
        """Tell the outside how the attempt fares, unless it was superseded."""
        check_generation(self._store, self._generation)
        self._write_status("running")

    def _write_status(self, state: StepState, **end: object) -> None:
        self._beats += 1
        progress = self._path / "progress.json"
        url = self._path / "metrics_url"
        status = StepStatus.model_validate(
            {
                "state": state,
                "generation": self._generation,
                "started_at": self._started_at,
                "seconds": time.time() - self._started_at,
                "heartbeat": self._beats,
                "progress": Progress.from_bytes(progress.read_bytes(), str(progress))
                if progress.exists()
                else Progress(),
                "metrics_url": url.read_text() if url.exists() and state == "running" else "",
                "run_id": self._spec.run_id,
                **end,
            }
        )
        self._store.put_bytes(STATUS_KEY, status.to_bytes())

    def _ship(self, *, at_once: bool = False) -> None:
        """Copy what has grown of the ranks' logs and of the metrics to the store."""
        now = time.monotonic()
        number = f"{self._generation:06d}"
        keys = {path: f"logs/{number}/{path.name}" for path in (self._path / "logs").glob("*.log")}
        keys[self._path / "metrics.jsonl"] = f"metrics/{number}.jsonl"
        for path, key in keys.items():
            size = path.stat().st_size if path.exists() else 0
            due = at_once or now >= self._ship_at.get(path, 0.0)
            if due and size > self._shipped.get(path, 0):
                self._store.put_file(key, path)
                self._shipped[path] = size
                self._ship_at[path] = now + size / _SHIP_BYTES_PER_SECOND

    def _tell_end(self, code: ExitCode, codes: list[int | None]) -> None:
        """Ship the logs and note the end; to a store that stays away only the exit code tells."""
        try:
            persist(partial(self._ship, at_once=True), seconds=_END_SECONDS)
            persist(partial(self._write_end, code, codes), seconds=_END_SECONDS)
        except StorageError as error:
            _log.error("the end of the attempt is not noted: %s", error.message)

    def _write_end(self, code: ExitCode, codes: list[int | None]) -> None:
        # Logs may take longer to ship than a lease lasts: then the status is another attempt's.
        check_generation(self._store, self._generation)
        paths = self._path.glob("report-*.json")
        reports = [Report.from_bytes(path.read_bytes(), str(path)) for path in paths]
        told = next((report for report in reports if report.code == code), None)
        reason, hint = (told.reason, told.hint) if told else ("", "")
        if code == ExitCode.STALLED:
            reason = f"no progress for {self._spec.runtime.stall_seconds:.0f} s"
            hint = "the ranks' logs hold their stacks"
        elif code != ExitCode.DONE and not told:
            known = f"the ranks ended with {codes} (a negative number is a signal)"
            reason, hint = untold_end(code, known)
        self._write_status(_STATES.get(code, "failed"), code=int(code), reason=reason, hint=hint)

    def _write_disk_full(self, full: DiskFullError) -> None:
        _log.error("%s", full.message)
        code, hint = int(full.exit_code), full.hint or ""
        with suppress(OSError):
            self._write_status("failed", code=code, reason=full.message, hint=hint)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(spec_uri: str) -> ExitCode:
    """Run one attempt of the step that a spec describes."""
    setup_logging()
    try:
        return Supervisor(read_spec(spec_uri), spec_uri).run()
    except PreemptedError as error:
        _log.info("%s", error.message)
        return error.exit_code
    except KinetoscopeError as error:
        _log.error("%s", error.message)
        return error.exit_code
    except OSError as error:
        full = disk_full_error(error)
        if full is None:
            raise
        _log.error("%s", full.message)
        return full.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
