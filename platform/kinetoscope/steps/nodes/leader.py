"""The supervisor of the first node, which holds the step's lease and sums the attempt up."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from kinetoscope.core.errors import (
    CorruptError,
    ExitCode,
    StorageError,
    SupersededError,
    WithdrawnError,
)
from kinetoscope.core.full_disk import disk_full_or_raise
from kinetoscope.core.settings import workspace
from kinetoscope.steps.attempts import acquire
from kinetoscope.steps.contract import STEPS, Report
from kinetoscope.steps.endings import FREE, ending_state
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
from kinetoscope.steps.nodes.sign_of_life import SignOfLife
from kinetoscope.steps.ranks import Ranks, worst_code
from kinetoscope.steps.repeating import Repeating, persist
from kinetoscope.steps.results import keep_result
from kinetoscope.storage.keys import split_uri
from kinetoscope.storage.open import open_store

_log = logging.getLogger(__name__)


class Leader(Node):
    """The part of the node that has rank 0."""

    def run(self) -> ExitCode:
        """Run an attempt, unless the step has a result already; return the exit code."""
        looking = self._looking_for_the_launcher()
        state = acquire(self.store, self.spec, self._should_stop, self.stop.beginning)
        if state.result is not None:
            keep_result(self.store, state)
            return ExitCode.DONE
        self._generation = state.generation
        report = self.report(workspace().scratch_path, self._generation)
        try:
            with self.folder() as folder:
                report = self.report(folder, self._generation)
                return self._run_ranks(folder, report, looking)
        except SupersededError as error:
            _log.error("%s", error.message)
            return error.exit_code
        except OSError as error:
            full = disk_full_or_raise(error)
        # Told now that the attempt's own files are gone: there may be room.
        end = self.tell_disk_full(full, report)
        with suppress(OSError, StorageError, SupersededError):
            self._note_end(report, end)
        return full.exit_code

    def _run_ranks(self, folder: Path, report: NodeReport, looking: list[Repeating]) -> ExitCode:
        with self.started_ranks(folder, self._generation) as ranks:
            code = self.watch(ranks, folder, [*looking, *self._beside(report)])
            ranks.close()
            return self._sum_up(folder, report, code, ranks)

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

    def _looking_for_the_launcher(self) -> list[Repeating]:
        """Begin to look whether the step's launcher lives, if it has one."""
        spec = self.spec
        if not spec.launcher_key:
            return []
        _, beside = split_uri(self.spec_uri, STEPS)
        root = open_store(spec.root_uri)
        life = SignOfLife(root, spec.launcher_key, beside, 60 * spec.orphan_minutes)

        def look() -> None:
            if life.is_gone():
                minutes = f"{spec.orphan_minutes:g} minutes"
                self.withdrawn = f"no sign of life of the launcher for {minutes}"
                self.told_to_stop = True

        return [Repeating("looking for the launcher", look, life.look_seconds)]

    def _should_stop(self) -> bool:
        """Tell whether to stop, and ask the store for it: before there are ranks."""
        if not self.is_told_to_stop():
            self.look_for_stop()
        if self.withdrawn:
            raise WithdrawnError(f"{self.withdrawn}: no attempt was begun")
        return self.told_to_stop

    def _sum_up(self, folder: Path, report: NodeReport, code: ExitCode, ranks: Ranks) -> ExitCode:
        """Tell how the attempt ended; a store that stays away hears it from the exit code alone."""
        end = self._judged(self.end_of(folder, code, ranks))
        try:
            if end.code in FREE:  # perhaps it was a further node that saw the stop
                persist(self.look_for_stop, seconds=END_SECONDS)
                end = self._judged(end)
            end = self._with_other_nodes(end)
            persist(partial(report.end, ending_state(end.code), end), seconds=END_SECONDS)
            persist(partial(self._note_end, report, end), seconds=END_SECONDS)
            persist(partial(report.ship, at_once=True), seconds=END_SECONDS)
        except (StorageError, SupersededError) as error:
            _log.error("not all is told of the end of the attempt: %s", error.message)
        self.show_end(folder, end, ranks)
        return ExitCode(end.code)

    def _judged(self, end: Report) -> Report:
        """Return an end that is for good where it would be free and nobody waits for the step."""
        if not self.withdrawn or end.code not in FREE:
            return end
        told = {"code": ExitCode.WITHDRAWN, "reason": f"{self.withdrawn}: {end.reason}", "hint": ""}
        return end.model_copy(update=told)

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
