"""An attempt of three ranks that train, save, and commit, by whatever protocol they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from protocol.oracle import Oracle, Save
from protocol.world import Actor, World

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.read import Checkpoint
from kinetoscope.checkpoints.write import Tensors
from kinetoscope.core.errors import KinetoscopeError, StorageError
from kinetoscope.steps.repeating import may_pass

NUM_RANKS = 3
NUM_STEPS = 3
# How often the save of the last step is tried.
_MOST_TRIES = 3


class Rank(Protocol):
    """What one rank of an attempt can do with the step's state."""

    def agree(self) -> Checkpoint | None:
        """Return what all ranks go on from."""
        ...

    def next_prefix(self, step: int) -> str:
        """Return where the next save of a step will lie."""
        ...

    def save(self, groups: Tensors, state: CheckpointState) -> str:
        """Save a checkpoint, rank 0 alone; return its prefix."""
        ...

    def roll_back(self) -> str:
        """Give up the newest checkpoint, rank 0 alone; return the prefix of the one before."""
        ...

    def commit(self, prefix: str) -> None:
        """Commit the result, rank 0 alone."""
        ...


class Protocol_(Protocol):  # noqa: N801 # the protocol of the state, not of a class
    """How attempts share the state of a step."""

    def begin(self, number: int) -> int | None:
        """Begin an attempt; return its generation, or None where the step has its result."""
        ...

    def rank(self, generation: int, rank: int, engine: ThreadEngine) -> Rank:
        """Return one of an attempt's ranks, in a process of its own."""
        ...

    def end(self, generation: int, code: int) -> None:
        """Note that an attempt is over."""
        ...

    def result(self) -> str | None:
        """Return the prefix of the checkpoint that the result names, or None: there is none."""
        ...


@dataclass
class Meeting:
    """Where the ranks of an attempt meet."""

    world: World
    members: list[Actor] = field(default_factory=list)
    words: list[dict[int, str]] = field(default_factory=list)


class ThreadEngine:
    """The part of an engine by which ranks meet: a rank that ends takes the others along."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self._meeting = meeting
        self._rank = rank
        self._round = 0

    def gather_text(self, text: str) -> list[str]:
        """Return what every rank says, by rank, on every rank."""
        meeting, number = self._meeting, self._round
        self._round += 1
        if len(meeting.words) == number:
            meeting.words.append({})
        words = meeting.words[number]
        words[self._rank] = text

        def complete() -> bool:
            return len(words) == NUM_RANKS

        meeting.world.wait(lambda: complete() or any(actor.over for actor in meeting.members))
        if not complete():
            raise KinetoscopeError("a peer is lost")
        return [words[rank] for rank in range(NUM_RANKS)]

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.gather_text("")


@dataclass(frozen=True)
class Job:
    """A step that several attempts work on.

    Attributes:
        roll_back_after: step after whose save the first attempt goes back; 0: none.
    """

    world: World
    oracle: Oracle
    protocol: Protocol_
    roll_back_after: int = 0

    def attempt(self, number: int) -> Actor:
        """Add a supervisor, which begins an attempt when its turn comes."""
        return self.world.start("supervisor", lambda: self._supervise(number), number)

    def _supervise(self, number: int) -> None:
        try:
            generation = self.protocol.begin(number)
        except KinetoscopeError as error:
            return self.world.tell(error.message)
        if generation is None:
            return self.look()
        self.oracle.began(generation)
        meeting = Meeting(self.world)
        codes: list[int] = []
        for rank in range(NUM_RANKS):
            work = _Training(self, meeting, generation, rank, codes)
            meeting.members.append(self.world.start(f"rank {rank}", work.run, number))
        self.world.wait(lambda: all(actor.over for actor in meeting.members))
        try:
            self.protocol.end(generation, max(codes, default=1))
        except KinetoscopeError as error:
            self.world.tell(error.message)
        return None

    def look(self) -> None:
        """Read the result, as others do."""
        try:
            prefix = self.protocol.result()
        except StorageError as error:
            return self.world.tell(error.message)
        if prefix is not None:
            self.oracle.seen(prefix)
        return None


class _Training:
    """What one rank does."""

    def __init__(
        self, job: Job, meeting: Meeting, generation: int, rank: int, codes: list[int]
    ) -> None:
        self._job = job
        self._engine = ThreadEngine(meeting, rank)
        self._rank = rank
        self._generation = generation
        self._codes = codes
        self._own = job.protocol.rank(generation, rank, self._engine)
        self._num_agreed = 0
        self._prefix = ""

    def run(self) -> None:
        try:
            step = self._go_on()
            while step < NUM_STEPS:
                step += 1
                self._engine.barrier()
                if self._rank == 0:
                    self._save_or_go_on(step)
                if self._is_to_go_back(step):
                    if self._rank == 0:
                        self._go_back()
                    step = self._go_on()
            self._engine.barrier()
            if self._rank == 0:
                self._own.commit(self._prefix)
                self._job.oracle.committed(self._generation, self._prefix)
            self._codes.append(0)
        except (KinetoscopeError, OSError) as error:
            self._codes.append(1)
            self._job.world.tell(str(error))

    def _go_on(self) -> int:
        """Load what all ranks agree on; return the step."""
        found = self._own.agree()
        self._num_agreed += 1
        mark, step = 0, 0
        if found is not None:
            mark, step = (int(value) for value in found.tensors["weights"]["w"])
            assert found.state.step == step
            self._prefix = self._job.oracle.saves[mark - 1].prefix
        self._job.world.tell(f"goes on from save {mark}")
        if self._rank == 0:
            self._job.oracle.chose(self._generation, mark)
        self._job.oracle.loaded(self._generation, self._num_agreed, mark, step)
        return step

    def _save_or_go_on(self, step: int) -> None:
        """Save as the trainer does: only the last step's save is needed."""
        for tries in range(1, _MOST_TRIES + 1):
            try:
                return self._save(step)
            except StorageError as error:
                if not may_pass(error) or (step == NUM_STEPS and tries == _MOST_TRIES):
                    raise
                if step < NUM_STEPS:
                    return None
        return None

    def _save(self, step: int) -> None:
        oracle = self._job.oracle
        save = oracle.saving(self._generation, step, self._own.next_prefix(step))
        tensors = {"weights": {"w": torch.tensor([save.mark, step])}}
        self._prefix = self._own.save(tensors, CheckpointState(step=step))
        assert self._prefix == save.prefix
        self._job.world.tell(f"has saved step {step} as save {save.mark}")
        oracle.saved(save)

    def _is_to_go_back(self, step: int) -> bool:
        first = self._generation == 1 and self._num_agreed == 1
        return first and step == self._job.roll_back_after

    def _go_back(self) -> None:
        """Give up the newest save; where that fails, nobody knows whether it was given up."""
        oracle = self._job.oracle
        before = list(oracle.saves)
        oracle.rolling_back()
        to = _mark(before, self._own.roll_back())
        self._job.world.tell(f"goes back to save {to}")
        oracle.rolled_back(to)


def _mark(saves: list[Save], prefix: str) -> int:
    return next((save.mark for save in saves if save.prefix == prefix), 0)


Start = Callable[[World], Job]
