"""A small world: actors that run one at a time, and what may come between two of their calls.

Every call of an actor to the store is a place where the world may turn out otherwise than in the
plain course, in which the actor goes on and all goes well. A schedule is a few such turns, by the
number of the place: so a run can be repeated, and a run that shows a fault can be made smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, Thread, current_thread

from kinetoscope.core.errors import StorageError

Schedule = Mapping[int, int]
"""Number of a place -> which of the turns there, by any number."""

ANOTHER_ATTEMPT_RUNS = 0
"""The turn in which an actor of another attempt runs on, the first one of those."""
_MOST_PLACES = 4000


class KilledError(BaseException):
    """The actor's process is gone: no handler of errors sees it."""


class ViolationError(BaseException):
    """Something happened that must never happen."""


@dataclass(eq=False)
class Actor:
    """A process, as a thread that runs when it is its turn."""

    name: str
    attempt: int
    turn: Lock = field(default_factory=lambda: _taken())
    """Free for the moment in which its turn comes."""
    ready: Callable[[], bool] = lambda: True
    killed: bool = False
    away: int = 0
    """For how many more of its calls the store does not answer."""
    over: bool = False
    """It ended, in whatever way."""


@dataclass(frozen=True)
class Turn:
    """One way that things may go on."""

    what: str
    take: Callable[[], None]


class World:
    """Runs actors one at a time.

    Args:
        schedule: where things turn out otherwise.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._actors: list[Actor] = []
        self._by_thread: dict[Thread, Actor] = {}
        self._finished = _taken()
        self._late: list[tuple[str, Callable[[], object]]] = []
        self.events: Callable[[], list[Turn]] = list
        """What may befall the store by itself, at any moment."""
        self.violation = ""
        self._error: BaseException | None = None
        self.story: list[str] = []
        self.turns: list[list[int]] = []
        """Numbers of the turns that could have been taken, by place."""

    def start(self, name: str, work: Callable[[], None], attempt: int) -> Actor:
        """Add an actor, which runs when its turn comes."""
        actor = Actor(f"attempt {attempt}, {name}", attempt)

        def live() -> None:
            actor.turn.acquire()
            try:
                if not actor.killed:
                    work()
            except (KilledError, ViolationError):
                pass
            except BaseException as error:  # neither told by the code nor a violation
                self._error = self._error or error
                self._note(f"{type(error).__name__} of {actor.name}")
            actor.over = True
            self._hand_over(actor)

        thread = Thread(target=live, name=actor.name, daemon=True)
        self._actors.append(actor)
        self._by_thread[thread] = actor
        thread.start()
        return actor

    def run(self) -> None:
        """Run all actors to their ends; raises ``ViolationError`` with the story."""
        self._hand_over(None)
        self._finished.acquire()
        for thread in list(self._by_thread):
            thread.join()
        self._actors.clear()
        self._by_thread.clear()
        if self._error is not None:
            raise self._error
        if self.violation:
            raise ViolationError(self.violation)

    def be_plain(self) -> None:
        """Let all go well from now on."""
        self._schedule = {}

    def fail(self, message: str) -> None:
        """Note that something happened that must never happen, and end the run."""
        self._note(message)
        raise ViolationError

    def tell(self, what: str) -> None:
        """Add a line to the story."""
        actor = self._by_thread.get(current_thread())
        self.story.append(f"{actor.name if actor else 'afterwards'}: {what}")

    def later(self, what: str, call: Callable[[], object]) -> None:
        """Let a write be under way, to arrive at any moment, or never."""
        self._late.append((what, call))

    def arrive(self, number: int = 0) -> None:
        """Let one of the writes under way arrive."""
        what, call = self._late.pop(number)
        self.story.append(f"    what was under way arrives: {what}")
        call()

    def arrive_all(self) -> None:
        """Let all that is under way arrive."""
        while self._late:
            self.arrive()

    def pause(self, what: str, faults: Callable[[], list[Turn]] = list) -> None:
        """Let the world take turns, before a call of the actor whose turn it is.

        Args:
            what: it is about to do.
            faults: of the call; taking one is the last turn.
        """
        actor = self._by_thread.get(current_thread())
        if actor is None:  # a thread of an actor, or what comes after all actors
            return None
        if actor.away:
            actor.away -= 1
            self.story.append(f"{actor.name}: {what}: no answer")
            raise StorageError("no answer")
        while True:
            own = faults()
            turn = self._choose(actor, own)
            self._check(actor)
            if turn is None or turn in own:
                self.story.append(f"{actor.name}: {what}{f': {turn.what}' if turn else ''}")
                return turn.take() if turn else None
            turn.take()
            self._check(actor)

    def be_away(self, num_calls: int) -> None:
        """Give the actor whose turn it is no answer, nor to so many of its next calls."""
        self._by_thread[current_thread()].away = num_calls
        raise StorageError("no answer")

    def wait(self, ready: Callable[[], bool]) -> None:
        """Let others run until something is so."""
        actor = self._by_thread[current_thread()]
        actor.ready = ready
        if not ready():
            self._hand_over(actor)
            actor.turn.acquire()
        actor.ready = lambda: True
        self._check(actor)

    def _choose(self, actor: Actor, faults: list[Turn]) -> Turn | None:
        place = len(self.turns)
        if place > _MOST_PLACES:
            self.fail("it does not come to an end")
        others = [a for a in self._actors if a is not actor and not a.over and a.ready()]
        own, other = (
            [
                Turn(f"{a.name} runs", partial(self._switch, actor, a))
                for a in others
                if (a.attempt == actor.attempt) is same
            ]
            for same in (True, False)
        )
        late = [Turn("", partial(self.arrive, number)) for number in range(len(self._late))]
        some = [kind for kind in (other, faults, late, own, self.events()) if kind]
        # How likely a kind is does not hang on how many turns it has.
        kinds = some + [kind for kind in (other, other, faults, faults, late) if kind]
        self.turns.append(
            [k + n * len(kinds) for k, kind in enumerate(some) for n in range(len(kind))]
        )
        number = self._schedule.get(place)
        if number is None or not kinds:
            return None
        kind = kinds[number % len(kinds)]
        return kind[number // len(kinds) % len(kind)]

    def _switch(self, actor: Actor, to: Actor) -> None:
        to.turn.release()
        actor.turn.acquire()

    def _hand_over(self, actor: Actor | None) -> None:
        following = self._next(actor)
        if following is not None:
            following.turn.release()
        else:
            self._finished.release()

    def _next(self, actor: Actor | None) -> Actor | None:
        able = [a for a in self._actors if not a.over and (a.killed or a.ready())]
        waiting = [a for a in self._actors if not a.over and a not in able]
        if not able and waiting:
            self._note(f"{[a.name for a in waiting]} wait for ever")
            able = waiting
        same = [a for a in able if actor is not None and a.attempt == actor.attempt]
        return next(iter(same or able), None)

    def _note(self, message: str) -> None:
        self.violation = self.violation or message
        for actor in self._actors:
            actor.killed = True

    def _check(self, actor: Actor) -> None:
        if actor.killed:
            raise KilledError


def _taken() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock
