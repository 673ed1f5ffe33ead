"""The supervisor of the first node, which holds the step's lease and sums the attempt up."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from kinetoscope.core.errors import (
    CorruptError,
    DiskFullError,
    ExitCode,
    StorageError,
    SupersededError,
)
from kinetoscope.core.full_disk import disk_full_or_raise
from kinetoscope.steps.attempts import acquire
from kinetoscope.steps.contract import Report, make_room
from kinetoscope.steps.endings import ending_state
from kinetoscope.steps.ledger.entries import Ended
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.nodes.node import (
    BEAT_SECONDS,
    CAUSE_SECONDS,
    END_SECONDS,
    LOOK_SECONDS,
    Node,
)
from kinetoscope.steps.nodes.report import NodeReport, read_node_end
from kinetoscope.steps.ranks import Ranks, worst_code
from kinetoscope.steps.repeating import Repeating, persist
from kinetoscope.steps.results import keep_result

_log = logging.getLogger(__name__)


class Leader(Node):
    """The part of the node that has rank 0."""

    def run(self) -> ExitCode:
        """Run an attempt, unless the step has a result already; return the exit code."""
        state = acquire(self.store, self.spec, self._should_stop)
        if state.result is not None:
            keep_result(self.store, state)
            return ExitCode.DONE
        self._generation = state.generation
        with self.folder() as folder:
            report = self.report(folder, self._generation)
            ranks = self.start_ranks(folder, self._generation)
            try:
                code = self.watch(ranks, folder, self._beside(report))
                ranks.close()
                return self._sum_up(folder, report, code, ranks)
            except SupersededError as error:
                _log.error("%s", error.message)
                return error.exit_code
            except OSError as error:
                full = disk_full_or_raise(error)
            finally:
                ranks.close()
        # Told now that the attempt's own files are gone: there may be room.
        return self._tell_disk_full(report, full)

    def _beside(self, report: NodeReport) -> list[Repeating]:
        ledger = Ledger(self.store)

        def beat() -> None:
            ledger.check(self._generation)
            report.beat()

        return [
            Repeating("the heartbeat", beat, BEAT_SECONDS),
            Repeating("shipping logs", report.ship, BEAT_SECONDS),
            Repeating("looking for a stop", self.look_for_stop, LOOK_SECONDS),
        ]

    def _should_stop(self) -> bool:
        """Tell whether to stop, and ask the store for it: before there are ranks."""
        if not self.is_told_to_stop():
            self.look_for_stop()
        return self.told_to_stop

    def _sum_up(self, folder: Path, report: NodeReport, code: ExitCode, ranks: Ranks) -> ExitCode:
        """Tell how the attempt ended; a store that stays away hears it from the exit code alone."""
        end = self.end_of(folder, code, ranks.codes())
        try:
            end = self._with_other_nodes(end)
            persist(partial(report.end, ending_state(end.code), end), seconds=END_SECONDS)
            persist(partial(self._note_end, report, end), seconds=END_SECONDS)
            persist(partial(report.ship, at_once=True), seconds=END_SECONDS)
        except (StorageError, SupersededError) as error:
            _log.error("not all is told of the end of the attempt: %s", error.message)
        return ExitCode(end.code)

    def _with_other_nodes(self, own: Report) -> Report:
        """Return the end of the whole attempt: the worst of all nodes that have told theirs."""
        others = set(range(1, self.environment.num_nodes))
        ends = {0: own}
        deadline = time.monotonic() + CAUSE_SECONDS
        while True:
            for node in others - ends.keys():
                with suppress(CorruptError):
                    if end := read_node_end(self.store, self._generation, node):
                        ends[node] = end
            worst = worst_code([end.code for end in ends.values()], told_to_stop=True)
            waits = worst == ExitCode.LOST_PEER and time.monotonic() < deadline
            if not (waits and others - ends.keys()):
                break
            time.sleep(0.5)
        node, end = next((node, end) for node, end in ends.items() if end.code == worst)
        reason = f"node {node}: {end.reason}" if node else end.reason
        return end.model_copy(update={"reason": reason})

    def _note_end(self, report: NodeReport, end: Report) -> None:
        ledger = Ledger(self.store)
        state = ledger.state()
        keep_result(self.store, state)
        if state.result or (state.ended and state.generation == self._generation):
            return
        ended = Ended(
            code=end.code,
            reason=end.reason,
            hint=end.hint,
            steps=report.progress().added,
            told_to_stop=self.told_to_stop,
        )
        ledger.append(lambda _: ended, self._generation)

    def _tell_disk_full(self, report: NodeReport, full: DiskFullError) -> ExitCode:
        _log.error("%s", full.message)
        make_room(self.spec)
        end = Report(code=full.exit_code, reason=full.message, hint=full.hint or "")
        with suppress(OSError, StorageError):
            report.end("failed", end)
            self._note_end(report, end)
        return full.exit_code
