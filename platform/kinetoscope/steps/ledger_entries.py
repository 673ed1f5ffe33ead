"""What can happen to a step, and the state that it comes to."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt

from kinetoscope.core.config_model import Record
from kinetoscope.steps.process_identity import ProcessIdentity


class Attempt(Record):
    """Somebody begins to work on the step; all earlier attempts are superseded."""

    kind: Literal["attempt"] = "attempt"
    run_id: str
    start: NonNegativeInt = 0
    """Number of the run's start."""
    launch: str = ""
    """What tells this launch of the processes from others of the same attempt's number."""
    process: ProcessIdentity
    code_version: str = ""
    checkpoint: str = ""
    """Prefix of the one to go on from; empty: from nothing."""


class Saved(Record):
    """A checkpoint is whole."""

    kind: Literal["checkpoint"] = "checkpoint"
    prefix: str
    manifest: str
    """Digest of its manifest."""
    step: NonNegativeInt


class Damaged(Record):
    """A checkpoint can't be gone on from, after two looks."""

    kind: Literal["damaged"] = "damaged"
    prefix: str
    reason: str = ""


class RolledBack(Record):
    """Training goes back: what was saved after a checkpoint counts no more."""

    kind: Literal["rollback"] = "rollback"
    to: str
    """Prefix of the checkpoint; empty: to the beginning."""
    skipped: tuple[tuple[int, int], ...] = ()
    """Batches that are left out from now on, as (epoch, place)."""


class Pruned(Record):
    """Checkpoints that are about to be deleted, by whoever comes to it."""

    kind: Literal["prune"] = "prune"
    prefixes: tuple[str, ...]


class Committed(Record):
    """The step has its result: the last entry."""

    kind: Literal["result"] = "result"
    result: dict[str, Any]
    """As ``result.json`` has it."""


class Ended(Record):
    """An attempt is over, and its processes with it."""

    kind: Literal["attempt_end"] = "attempt_end"
    code: int
    reason: str = ""
    steps: NonNegativeInt = 0
    """Optimizer steps, or parts, that it added."""
    told_to_stop: bool = False


Happening = Attempt | Saved | Damaged | RolledBack | Pruned | Committed | Ended


class Entry(Record):
    """One entry of a ledger."""

    number: PositiveInt
    generation: PositiveInt
    """Of the attempt that wrote it."""
    token: str
    """Tells this write from all others."""
    before: str
    """Digest of the entry before; empty for the first."""
    what: Annotated[Happening, Field(discriminator="kind")]


class StepState(Record):
    """A step after the first ``number`` entries of its ledger."""

    number: NonNegativeInt = 0
    digest: str = ""
    """Of the last entry."""
    generation: NonNegativeInt = 0
    attempt: Attempt | None = None
    """The latest."""
    ended: Ended | None = None
    """How the latest attempt ended, if it has."""
    checkpoints: tuple[Saved, ...] = ()
    """Those that count, the newest last."""
    doomed: tuple[str, ...] = ()
    """Prefixes to delete; perhaps they are."""
    skipped: tuple[tuple[int, int], ...] = ()
    result: Committed | None = None

    def after(self, entry: Entry, digest: str) -> Self:
        """Return the state after one more entry.

        Args:
            entry: that comes next.
            digest: of its bytes.

        Raises:
            ValueError: it can't come next.
        """
        what = entry.what
        expected = self.generation + (1 if isinstance(what, Attempt) else 0)
        if self.result is not None:
            raise ValueError("the step had its result")
        if (entry.number, entry.before) != (self.number + 1, self.digest):
            raise ValueError(f"it follows on {entry.before or 'nothing'}, not on {self.digest}")
        if entry.generation != expected or not expected:
            raise ValueError(f"it is of attempt {entry.generation}, not {expected}")
        changes = {"number": entry.number, "digest": digest, "generation": entry.generation}
        return self.model_copy(update=changes | self._changes(what))

    def _changes(self, what: Happening) -> dict[str, Any]:
        match what:
            case Attempt():
                return {"attempt": what, "ended": None}
            case Saved():
                others = tuple(c for c in self.checkpoints if c.prefix != what.prefix)
                return {"checkpoints": (*others, what)}
            case Damaged():
                return {"checkpoints": self._without({what.prefix})}
            case RolledBack():
                kept = self._up_to(what.to)
                gone = [c.prefix for c in self.checkpoints if c not in kept]
                doomed = tuple(dict.fromkeys((*self.doomed, *gone)))
                skipped = (*self.skipped, *what.skipped)
                return {"checkpoints": kept, "doomed": doomed, "skipped": skipped}
            case Pruned():
                doomed = tuple(dict.fromkeys((*self.doomed, *what.prefixes)))
                return {"checkpoints": self._without(set(what.prefixes)), "doomed": doomed}
            case Committed():
                return {"result": what}
            case Ended():
                return {"ended": what}

    def _without(self, prefixes: set[str]) -> tuple[Saved, ...]:
        return tuple(saved for saved in self.checkpoints if saved.prefix not in prefixes)

    def _up_to(self, prefix: str) -> tuple[Saved, ...]:
        places = [i for i, saved in enumerate(self.checkpoints) if saved.prefix == prefix]
        if prefix and not places:
            raise ValueError(f"it goes back to {prefix}, which does not count")
        return self.checkpoints[: places[0] + 1] if places else ()
