"""What must hold whatever happens, told by what the actors themselves were told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from protocol.world import World


@dataclass(eq=False)
class Save:
    """A checkpoint that somebody began to save.

    Attributes:
        mark: what its tensors hold, which no other save has; a later one has a higher one.
        superseded: whether a later attempt had begun before.
        gone: rolled back; None: perhaps.
    """

    mark: int
    generation: int
    step: int
    prefix: str
    superseded: bool
    confirmed: bool = False
    damaged: bool = False
    gone: bool | None = False


@dataclass
class Oracle:
    """Watches all attempts of a step.

    Attributes:
        world: that is told what must not be.
        keep: checkpoints that stay.
    """

    world: World
    keep: int
    saves: list[Save] = field(default_factory=list)
    choices: dict[int, int] = field(default_factory=dict)
    """Mark of what an attempt went on from, by generation; 0: nothing."""
    loads: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    newest: int = 0
    """The latest generation that has begun."""
    result: Save | None = None

    def began(self, generation: int) -> None:
        if self.result is not None:
            self.world.fail(f"attempt {generation} began after there was a result")
        if generation <= self.newest:
            self.world.fail(f"attempt {generation} began twice, or after attempt {self.newest}")
        self.newest = generation

    def chose(self, generation: int, mark: int) -> None:
        """Hear what rank 0 goes on from.

        Args:
            generation: of the attempt.
            mark: of the checkpoint; 0: none.
        """
        if generation != self.newest:
            return  # whatever it does on from there counts no more
        needed = self._needed()
        self.choices[generation] = mark
        if needed is not None and mark < needed.mark:
            self.world.fail(f"it goes on from {mark or 'nothing'}, and {needed} is lost")

    def loaded(self, generation: int, which: int, mark: int, step: int) -> None:
        """Hear what a rank has after all ranks found that they agree."""
        others = self.loads.setdefault((generation, which), set())
        others.add(mark)
        if len(others) > 1:
            self.world.fail(f"ranks of attempt {generation} go on from different saves: {others}")
        if mark:
            save = self._of(mark)
            if save.step != step:
                self.world.fail(f"{save} was loaded as step {step}")
            if save.gone and generation == self.newest:
                self.world.fail(f"{save} was loaded, and had been rolled back")

    def saving(self, generation: int, step: int, prefix: str) -> Save:
        """Hear of a save that begins; return it, with its mark."""
        save = Save(len(self.saves) + 1, generation, step, prefix, self.newest > generation)
        self.saves.append(save)
        return save

    def saved(self, save: Save) -> None:
        """Hear that a save was told to be done."""
        if save.superseded:
            self.world.fail(f"{save} was saved after attempt {self.newest} had begun")
        later = [mark for number, mark in self.choices.items() if number > save.generation]
        if later and later[0] < save.mark and not save.damaged:
            self.world.fail(f"{save} was saved, and a later attempt had chosen {later[0]}")
        save.confirmed = True

    def rolling_back(self) -> None:
        """Hear that a rollback begins: the saves up to now may count no more from now on."""
        for save in self.saves:
            save.gone = True if save.gone else None

    def rolled_back(self, to: int) -> None:
        """Hear that all saves after a mark count no more."""
        for save in self.saves:
            if save.gone is None:
                save.gone = save.mark > to

    def committed(self, generation: int, prefix: str) -> None:
        """Hear that a result was told to be committed."""
        if self.newest > generation:
            self.world.fail(f"attempt {generation} committed, and attempt {self.newest} had begun")
        self.seen(prefix)

    def seen(self, prefix: str) -> None:
        """Hear that somebody read the result, which names a checkpoint."""
        found = next((save for save in self.saves if save.prefix == prefix), None)
        if found is None:
            self.world.fail(f"the result names {prefix}, which nobody saved")
        if self.result not in (None, found):
            self.world.fail(f"the result names {found}, and named {self.result}")
        self.result = found

    def damaged(self, prefix: str) -> None:
        for save in self.saves:
            save.damaged = save.damaged or save.prefix == prefix

    def _needed(self) -> Save | None:
        """Return the newest save that was told to be done, if nothing allows that it is lost."""
        known = [save for save in self.saves if save.gone is not True]
        # One that was not told to be done may count, and have pushed out another.
        kept = known[-self.keep :]
        sound = [s for s in kept if s.confirmed and not s.damaged and s.gone is False]
        return sound[-1] if sound else None

    def _of(self, mark: int) -> Save:
        if not 0 < mark <= len(self.saves):
            self.world.fail(f"nobody saved {mark}")
        return self.saves[mark - 1]


@dataclass
class Log:
    """What a ledger must come to, by the order in which its entries came to be.

    It knows nothing of numbers and digests: an entry that came to be has happened.
    """

    world: World
    kept: list[str] = field(default_factory=list)
    """Prefixes of the checkpoints that count, the newest last."""
    generation: int = 0
    ended: bool = False
    result: dict[str, Any] | None = None

    def created(self, entry: dict[str, Any]) -> None:
        """Hear of an entry that came to be."""
        what, generation = entry["what"], entry["generation"]
        kind = what["kind"]
        begins = kind == "attempt"
        if self.result is not None:
            self.world.fail(f"{kind} of attempt {generation} after the result")
        if generation != self.generation + begins or (self.ended and not begins):
            self.world.fail(f"{kind} of attempt {generation} in attempt {self.generation}")
        self.generation, self.ended = generation, kind == "attempt_end"
        if kind == "checkpoint":
            self.kept.append(what["prefix"])
        elif kind == "damaged":
            self._drop([what["prefix"]])
        elif kind == "prune":
            self._drop(what["prefixes"])
        elif kind == "rollback":
            self.kept = self.kept[: self.kept.index(what["to"]) + 1] if what["to"] else []
        elif kind == "result":
            self.result = what["result"]

    def deleted(self, key: str) -> None:
        """Hear that something is deleted, which must have been given up before."""
        named = self.result["artifacts"]["checkpoint"]["key"] if self.result else ""
        for prefix in filter(None, [*self.kept, named]):
            if key == prefix or key.startswith(f"{prefix}/"):
                self.world.fail(f"{key} is deleted, and counts")

    def _drop(self, prefixes: list[str]) -> None:
        self.kept = [prefix for prefix in self.kept if prefix not in prefixes]
