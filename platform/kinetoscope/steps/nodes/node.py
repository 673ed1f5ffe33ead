"""What the supervisors of all nodes do: start the node's ranks, watch them, tell how they ended."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from kinetoscope.core.errors import DiskFullError, ExitCode, StorageError
from kinetoscope.core.machine_limits import out_of_memory_kills
from kinetoscope.core.settings import pod_uid, workspace
from kinetoscope.steps.contract import (
    Report,
    StepSpec,
    StepStatus,
    attempt_key,
    make_room,
    stop_requested,
)
from kinetoscope.steps.endings import out_of_memory, untold_end
from kinetoscope.steps.nodes.pod_log import PodLog, lines_of_cause, rank_log
from kinetoscope.steps.nodes.report import NodeReport
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.steps.ranks import Ranks
from kinetoscope.steps.repeating import Repeating
from kinetoscope.steps.scratch import scratch_folder
from kinetoscope.steps.stop_signals import StopSignals
from kinetoscope.steps.watch import Stall, watch
from kinetoscope.storage.open import open_store

LOOK_SECONDS = 1.0
BEAT_SECONDS = 2.0
# How long the end is told again to a store that does not answer.
END_SECONDS = 60.0
# How long the real cause of a lost peer may take to be told by its own node.
CAUSE_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Node:
    """One node's part of an attempt.

    Args:
        spec: of the step.
        spec_uri: where the ranks read it.
        ranks: which of the job's ranks are this node's.
        stop: what outside says of stopping.
    """

    def __init__(
        self, spec: StepSpec, spec_uri: str, ranks: RankEnvironment, stop: StopSignals
    ) -> None:
        self.spec = spec
        self.spec_uri = spec_uri
        self.store = open_store(spec.uri)
        self.environment = ranks
        self.stop = stop
        self.told_to_stop = False
        self.withdrawn = ""
        """Why nobody waits for the step any more; empty while somebody may."""
        self._parent = os.getppid()
        self._host_pid = int(os.environ.get("KINO_HOST_PID", "0"))
        self._kills = out_of_memory_kills()
        self._pod_log: PodLog | None = None

    def folder(self) -> AbstractContextManager[Path]:
        """Give a new folder for what the ranks leave, which is gone afterwards."""
        name = f"{self.spec.name}-{self.spec.fingerprint}-node-{self.environment.node}"
        return scratch_folder(workspace().scratch_path, name)

    @contextmanager
    def started_ranks(self, folder: Path, generation: int | None) -> Iterator[Ranks]:
        """Start the node's ranks; those of a member learn the generation from rank 0.

        None of them is left afterwards. A pod's log shows that of the first.
        """
        known = {} if generation is None else {"KINO_GENERATION": str(generation)}
        ranks = Ranks(
            [self.spec.worker],
            self.environment,
            variables={
                "KINO_SPEC_URI": self.spec_uri,
                "KINO_ATTEMPT_PATH": str(folder),
                **known,
            },
            logs=folder / "logs",
            threads=self.spec.runtime.threads_per_process,
        )
        if pod_uid():
            self._pod_log = PodLog(rank_log(folder / "logs", ranks.numbers[0]))
        try:
            yield ranks
        finally:
            ranks.close()
            if self._pod_log is not None:
                self._pod_log.close()

    def report(self, folder: Path, generation: int) -> NodeReport:
        """Return what tells the store of this node."""
        number, count = self.environment.node, self.environment.num_nodes
        status = StepStatus(
            state="running",
            generation=generation,
            run_id=self.spec.run_id,
            node=number,
            num_nodes=count,
        )
        return NodeReport(self.store, attempt_key(generation, number), folder, status)

    def watch(self, ranks: Ranks, folder: Path, beside: Sequence[Repeating]) -> ExitCode:
        """Wait for the ranks; all that asks or tells the store goes on beside it."""
        marks = [folder / name for name in ("progress.json", "metrics.jsonl", "waiting")]
        stall = Stall(marks, self.spec.runtime.stall_seconds)

        def is_stuck(now: float) -> bool:
            for work in beside:
                work.check()
            return stall.is_stuck(now)

        try:
            return watch(
                ranks,
                should_stop=self.is_told_to_stop,
                grace_seconds=self.spec.runtime.grace_seconds,
                is_stuck=is_stuck,
            )
        finally:
            Repeating.stop_all(beside)

    def is_told_to_stop(self) -> bool:
        """Tell whether the node is to stop, whoever told it."""
        self.told_to_stop = self.told_to_stop or self.is_told_from_outside()
        return self.told_to_stop

    def is_told_from_outside(self) -> bool:
        """Tell whether a signal came, or whoever started us died."""
        orphaned = os.getppid() != self._parent or not _is_alive(self._host_pid)
        return orphaned or self.stop.told

    def look_for_stop(self) -> None:
        """Ask the store whether the run is to stop.

        Where a launcher would start the step again, that is for good.
        """
        if stop_requested(self.spec):
            self.told_to_stop = True
            if self.spec.launcher_key:
                self.withdrawn = self.withdrawn or "the run is to stop"

    def end_of(self, folder: Path, code: ExitCode, ranks: Ranks) -> Report:
        """Return why the ranks, all of which have ended, ended with a code together."""
        told = self._told_end(folder, code, ranks)
        if code not in (ExitCode.FAILED, ExitCode.STALLED) or out_of_memory_kills() <= self._kills:
            return told
        ends = ranks.own_ends().items()
        if killed := [number for number, end in ends if end == -signal.SIGKILL]:
            reason, hint = out_of_memory(f"rank {killed[0]}")
            return Report(code=code, reason=reason, hint=hint)
        # Perhaps a process of theirs, such as one that loads data; perhaps not the cause.
        reason, hint = out_of_memory("a process")
        return Report(code=code, reason=f"{told.reason}; {reason}", hint=told.hint or hint)

    def show_end(self, folder: Path, end: Report, ranks: Ranks) -> None:
        """Let a pod's log end with how it ended, and the rank that is the cause; all have ended."""
        if self._pod_log is not None:
            self._pod_log.close(lines_of_cause(folder / "logs", end.code, ranks))
        if self._pod_log is not None or self.environment.node:
            hint = f" (hint: {end.hint})" if end.hint else ""
            told = (self.environment.node, end.code, end.reason, hint)
            _log.info("node %d ended with code %d: %s%s", *told)

    def tell_disk_full(self, full: DiskFullError, report: NodeReport) -> Report:
        """Tell of a full disk, with the room that was kept for that."""
        _log.error("%s", full.message)
        end = Report(code=full.exit_code, reason=full.message, hint=full.hint or "")
        with suppress(OSError, StorageError):
            make_room(self.spec)
            report.end("failed", end)
        return end

    def _told_end(self, folder: Path, code: ExitCode, ranks: Ranks) -> Report:
        paths = sorted(folder.glob("report-*.json"))
        reports = [Report.from_bytes(path.read_bytes(), str(path)) for path in paths]
        told = next((report for report in reports if report.code == code), None)
        if code == ExitCode.STALLED:
            reason = f"no progress for {self.spec.runtime.stall_seconds:.0f} s"
            return Report(code=code, reason=reason, hint="the ranks' logs hold their stacks")
        if told is not None or code == ExitCode.DONE:
            return told or Report(code=code, reason="")
        known = f"the ranks ended with {ranks.codes()} (a negative number is a signal)"
        reason, hint = untold_end(code, known)
        return Report(code=code, reason=reason, hint=hint)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
