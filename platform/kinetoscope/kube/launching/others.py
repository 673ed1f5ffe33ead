"""Jobs of the same name that another start of the run, or another run, has asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

from kinetoscope.core.errors import NotFoundError, StorageError, SupersededError
from kinetoscope.kube.jobs.state import Observation
from kinetoscope.steps.contract import StepSpec, latest_start, read_spec, spec_key
from kinetoscope.steps.nodes.sign_of_life import SignOfLife
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store

# How long the launcher of a job that is over has to see that, and to delete it.
_ITS_OWN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants a job: a start of a run."""

    run_id: str
    start: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the claim that ``str`` of one gave; None for anything else."""
        run_id, _, start = text.partition("/")
        return cls(run_id, int(start)) if run_id and start.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.run_id}/{self.start}"


class Others:
    """Judges jobs that somebody else has asked for.

    Args:
        spec: of the step that we want.
    """

    def __init__(self, spec: StepSpec) -> None:
        self._spec = spec
        self._over: tuple[str, float] | None = None
        self._launcher: tuple[str, SignOfLife] | None = None

    def check_superseded(self, seen: Observation) -> None:
        """Raise ``SupersededError`` where a later start of our run has come to the step.

        Its launcher takes our job away; to go on with it would undo that, again and again.
        """
        latest = max(self._start_of_our_run(seen) or 0, latest_start(self._spec))
        if latest > self._spec.start:
            raise SupersededError(
                f"start {self._spec.start} of run {self._spec.run_id} was superseded by {latest}"
            )

    def is_of_earlier_start(self, seen: Observation) -> bool:
        """Tell whether a job is of an earlier start of our run, which nobody but us sees to."""
        start = self._start_of_our_run(seen)
        return start is not None and start < self._spec.start

    def may_be_removed(self, seen: Observation) -> bool:
        """Tell whether a job is over, and whoever asked for it has had the time to see that."""
        stopped = seen.suspension is not None and seen.suspension.kind == "stop"
        if not (seen.state in ("failed", "succeeded") or (stopped and not seen.pods)):
            self._over = None
            return False
        if self._over is None or self._over[0] != seen.uid:
            self._over = (seen.uid, time.monotonic())
        waited = time.monotonic() - self._over[1]
        return self._start_of_our_run(seen) is not None or waited >= _ITS_OWN_SECONDS

    def must_go(self, seen: Observation) -> bool:
        """Tell whether nobody has a use for a job any more that still runs, or waits to.

        One that somebody suspended without a note is theirs; one that was stopped goes already.
        """
        if seen.state == "suspended":
            note = seen.suspension
            if note.kind == "stop" if note is not None else not seen.queued:
                return False
        return self._start_of_our_run(seen) is not None or self._is_orphaned(seen)

    def _start_of_our_run(self, seen: Observation) -> int | None:
        """Return the number of the start of our run that asked for a job; None: another run did."""
        claim = Claim.parse(seen.launched_for)
        return claim.start if claim and claim.run_id == self._spec.run_id else None

    def _is_orphaned(self, seen: Observation) -> bool:
        """Look for a sign of life of the other's launcher, as the job's own pods do if it has any.

        A job that can't start has none, and would wait for ever.
        """
        claim = Claim.parse(seen.launched_for)
        if claim is None:
            return False
        try:
            if self._launcher is None or self._launcher[0] != seen.uid:
                self._launcher = (seen.uid, self._sign_of_life(claim))
            return self._launcher[1].is_gone()
        except (StorageError, OSError, NotFoundError):
            return False

    def _sign_of_life(self, claim: Claim) -> SignOfLife:
        key = spec_key(claim.run_id, claim.start)
        other = read_spec(join_uri(self._spec.uri, key))
        root = open_store(self._spec.root_uri)
        beside = f"{self._spec.key}/{key}"
        return SignOfLife(root, other.launcher_key, beside, other.orphan_minutes * 60)
