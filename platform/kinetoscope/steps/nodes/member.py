"""The supervisor of a further node: it never touches the lease, and follows the ledger."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from kinetoscope.core.errors import ExitCode, StorageError, SupersededError
from kinetoscope.core.full_disk import disk_full_or_raise
from kinetoscope.steps.contract import JOINED, Report
from kinetoscope.steps.endings import FREE, ending_state
from kinetoscope.steps.ledger.entries import LedgerState
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.steps.nodes.node import (
    BEAT_SECONDS,
    CAUSE_SECONDS,
    END_SECONDS,
    LOOK_SECONDS,
    Node,
)
from kinetoscope.steps.nodes.report import NodeReport
from kinetoscope.steps.repeating import Repeating, persist

_log = logging.getLogger(__name__)


class Member(Node):
    """The part of a node that has not rank 0.

    Its ranks wait for rank 0, which may wait for another run, for as long as it takes.
    """

    def run(self) -> ExitCode:
        """Run the node's ranks in whatever attempt rank 0 has; return the exit code."""
        self._report: NodeReport | None = None
        self._generation = 0
        self._is_done = False
        self.stop.begin()
        try:
            with self.folder() as folder:
                code = self._run_ranks(folder)
        except SupersededError as error:
            _log.error("%s", error.message)
            return error.exit_code
        except OSError as error:
            full = disk_full_or_raise(error)
            if self._report is not None:
                self.tell_disk_full(full, self._report)
            return full.exit_code
        return self._as_the_attempt_ended(code) if code in FREE else code

    def _run_ranks(self, folder: Path) -> ExitCode:
        with self.started_ranks(folder, None) as ranks:
            try:
                code = self.watch(ranks, folder, self._beside(folder))
            except OSError:
                with suppress(OSError):
                    self._join(folder)  # to be able to tell of it
                raise
            ranks.close()
            if self._is_done:  # however its ranks ended that the result found still at work
                code = ExitCode.DONE
            end = self.end_of(folder, code, ranks)
            self._tell_end(folder, end)
            self.show_end(folder, end, ranks)
        return code

    def _beside(self, folder: Path) -> list[Repeating]:
        ledger = Ledger(self.store)

        def tell() -> None:
            if (report := self._join(folder)) is not None:
                report.beat()

        def ship() -> None:
            if (report := self._join(folder)) is not None:
                report.ship()

        return [
            Repeating("following the ledger", partial(self._follow, ledger), BEAT_SECONDS),
            Repeating("the heartbeat", tell, BEAT_SECONDS),
            Repeating("shipping logs", ship, BEAT_SECONDS),
            Repeating("looking for a stop", self.look_for_stop, LOOK_SECONDS),
        ]

    def _follow(self, ledger: Ledger) -> None:
        """See whether there is anything left to do for this node."""
        state = ledger.state()
        if state.result is not None:
            self._is_done = self.told_to_stop = True
        elif self._generation:
            ledger.check(self._generation)
            self.told_to_stop = self.told_to_stop or state.ended is not None

    def _join(self, folder: Path) -> NodeReport | None:
        """Return what tells of this node, once a rank knows which attempt it is in."""
        joined = folder / JOINED
        if self._report is None and joined.exists():
            generation = int(joined.read_text())
            self._report, self._generation = self.report(folder, generation), generation
        return self._report

    def _tell_end(self, folder: Path, end: Report) -> None:
        report = self._join(folder)
        if report is None:
            return
        try:
            persist(partial(report.end, ending_state(end.code), end), seconds=END_SECONDS)
            persist(partial(report.ship, at_once=True), seconds=END_SECONDS)
        except StorageError as error:
            _log.error("the end of the node is not noted: %s", error.message)

    def _as_the_attempt_ended(self, code: ExitCode) -> ExitCode:
        """Return the code to end with, once the first node has told how the attempt ended.

        Whoever restarts us judges by the pod that ends first. So none may end with a code that
        means a free restart before the one that is the cause, or that knows of a stop for good.
        """
        if self.withdrawn:
            code = ExitCode.WITHDRAWN
        if self._generation and (code != ExitCode.PREEMPTED or self.spec.launcher_key):
            state = self._wait_for_the_end()
            if state is not None and state.result:
                return ExitCode.DONE
            if state is not None and state.ended and state.ended.code in set(ExitCode):
                return ExitCode(state.ended.code)
        return code

    def _wait_for_the_end(self) -> LedgerState | None:
        """Wait until the attempt is over; None where that is not told in time.

        The first node tells it again for as long as the store may take, and so long we look.
        """
        ledger = Ledger(self.store)
        latest = time.monotonic() + END_SECONDS
        deadline = time.monotonic() + CAUSE_SECONDS
        while time.monotonic() < deadline and not self.is_told_from_outside():
            try:
                state = ledger.state()
            except StorageError:
                deadline = min(latest, time.monotonic() + CAUSE_SECONDS)
            else:
                if state.generation > self._generation:
                    return None
                if state.ended or state.result:
                    return state
            time.sleep(LOOK_SECONDS)
        return None
