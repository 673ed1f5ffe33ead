"""What can happen to a step, and the state that it comes to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import ExitCode
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
    """Prefix of the newest one then, to go on from unless it is damaged; empty: there is none."""
    inherited: NonNegativeFloat = 0
    """Parts that the attempt before had added to go on from, where it did not live to say so."""


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
    deleted: tuple[str, ...] = ()
    """Prefixes of an earlier prune or rollback, of which nothing is left."""


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
    hint: str = ""
    steps: NonNegativeFloat = 0
    """Optimizer steps, or parts, that it added and that a later attempt goes on from."""
    told_to_stop: bool = False
    """From outside: by a signal, or by a stop of the run."""


Happening = Attempt | Saved | Damaged | RolledBack | Pruned | Committed | Ended


class Entry(Record):
    """One entry of a ledger."""

    step: str
    """Which step's ledger it is in, as ``NAME/FINGERPRINT``."""
    number: PositiveInt
    at: float = 0.0
    """Seconds since the epoch, by the writer's clock; for people."""
    generation: PositiveInt
    """Of the attempt that wrote it."""
    token: str
    """Tells this write from all others."""
    before: str
    """Digest of the entry before; empty for the first."""
    what: Annotated[Happening, Field(discriminator="kind")]
    digest: str = Field(default="", exclude=True)
    """Of its bytes as they are stored, so not stored with them."""


class LedgerState(Record):
    """A step after the first ``number`` entries of its ledger."""

    number: NonNegativeInt = 0
    digest: str = ""
    """Of the last entry."""
    generation: NonNegativeInt = 0
    attempt: Attempt | None = None
    """The latest."""
    ended: Ended | None = None
    """How the latest attempt ended, if it has said so."""
    progressed: bool = False
    """Whether the latest attempt added something to go on from, or was told to stop."""
    fruitless: NonNegativeInt = 0
    """Attempts right before the latest, of the same start, that did neither."""
    checkpoints: tuple[Saved, ...] = ()
    """Those that count, the newest last."""
    damaged: tuple[str, ...] = ()
    """Prefixes of what can't be gone on from, not deleted yet."""
    doomed: tuple[str, ...] = ()
    """Prefixes to delete; perhaps they are."""
    skipped: tuple[tuple[int, int], ...] = ()
    code_versions: tuple[str, ...] = ()
    """Of the attempts, oldest first."""
    result: Committed | None = None

    @property
    def newest(self) -> Saved | None:
        """The checkpoint to go on from; None: there is none."""
        return self.checkpoints[-1] if self.checkpoints else None

    def in_vain(self, run_id: str, start: int) -> int:
        """Return how many attempts of a start, up to now, added nothing and were not stopped."""
        return 0 if self.progressed or not self.is_at(run_id, start) else self.fruitless + 1

    def is_at(self, run_id: str, start: int) -> bool:
        """Tell whether the latest attempt is one of a start of a run."""
        latest = self.attempt
        return latest is not None and (latest.run_id, latest.start) == (run_id, start)

    def after(self, entry: Entry) -> Self:
        """Return the state after one more entry, which is stored.

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
        if self.ended is not None and not isinstance(what, Attempt):
            raise ValueError(f"attempt {self.generation} had ended")
        changes = {"number": entry.number, "digest": entry.digest, "generation": entry.generation}
        return self.model_copy(update=changes | self._changes(what))

    def _changes(self, what: Happening) -> dict[str, Any]:
        match what:
            case Attempt():
                return self._begun(what)
            case Saved():
                return {"checkpoints": (*self._without({what.prefix}), what), "progressed": True}
            case Damaged():
                return {
                    "checkpoints": self._without({what.prefix}),
                    "damaged": _joined(self.damaged, [what.prefix]),
                }
            case RolledBack():
                kept = self._up_to(what.to)
                gone = [c.prefix for c in self.checkpoints if c not in kept]
                skipped = (*self.skipped, *what.skipped)
                doomed = _joined(self.doomed, gone)
                return {"checkpoints": kept, "doomed": doomed, "skipped": skipped}
            case Pruned():
                return self._pruned(what)
            case Committed():
                return {"result": what}
            case Ended():
                withdrawn = what.code == ExitCode.WITHDRAWN
                told = what.steps > 0 or what.told_to_stop or withdrawn
                return {"ended": what, "progressed": self.progressed or told}

    def _begun(self, what: Attempt) -> dict[str, Any]:
        return {
            "attempt": what,
            "ended": None,
            "progressed": False,
            "fruitless": 0 if what.inherited else self.in_vain(what.run_id, what.start),
            "code_versions": _joined(self.code_versions, filter(None, [what.code_version])),
        }

    def _pruned(self, what: Pruned) -> dict[str, Any]:
        doomed = [p for p in self.doomed if p not in what.deleted]
        return {
            "checkpoints": self._without(set(what.prefixes)),
            "damaged": tuple(p for p in self.damaged if p not in what.prefixes),
            "doomed": _joined(doomed, what.prefixes),
        }

    def _without(self, prefixes: set[str]) -> tuple[Saved, ...]:
        return tuple(saved for saved in self.checkpoints if saved.prefix not in prefixes)

    def _up_to(self, prefix: str) -> tuple[Saved, ...]:
        places = [i for i, saved in enumerate(self.checkpoints) if saved.prefix == prefix]
        if prefix and not places:
            raise ValueError(f"it goes back to {prefix}, which does not count")
        return self.checkpoints[: places[0] + 1] if places else ()


def _joined(first: Iterable[str], then: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *then)))
