"""One course of the world: two attempts that may overlap, faults, and an attempt without any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from protocol.explore import Course
from protocol.faulty_store import FaultyStore
from protocol.ledger_protocol import STEP_URI, LedgerProtocol, is_whole
from protocol.oracle import Oracle
from protocol.ranks import Job, Protocol_
from protocol.world import Turn, ViolationError, World

from kinetoscope.checkpoints.layout import MANIFEST
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.storage.store import ObjectStore

NUM_ATTEMPTS = 3
_MOST_DAMAGED = 2

MakeProtocol = Callable[[FaultyStore, Path, int], Protocol_]


def run_course(
    course: Course, folder: Path, make: MakeProtocol = LedgerProtocol
) -> tuple[list[list[int]], list[str]]:
    """Run attempts by a schedule, then one more without faults, which has to finish the step."""
    world = World(course.schedule)
    store = FaultyStore(world, STEP_URI)
    oracle = Oracle(world, course.keep)
    protocol = make(store, folder, course.keep)
    world.events = lambda: _damages(store.objects, oracle)
    try:
        job = Job(world, oracle, protocol, course.roll_back_after)
        for number in range(1, NUM_ATTEMPTS):
            job.attempt(number)
        world.run()
        if not course.late_last:
            world.arrive_all()
        world.be_plain()
        job.attempt(NUM_ATTEMPTS)
        world.run()
        world.arrive_all()
        _check(job, store.objects)
    except ViolationError:
        raise ViolationError("\n".join([world.violation, *world.story])) from None
    return world.turns, world.story


def _check(job: Job, objects: ObjectStore) -> None:
    """Look at what is there in the end."""
    job.look()
    result = job.oracle.result
    if result is None:
        job.world.fail("the last attempt has not finished the step")
        return
    try:
        if not result.damaged and not is_whole(objects, result.prefix, result.mark):
            job.world.fail(f"the result names {result}, and that is another one")
        if isinstance(job.protocol, LedgerProtocol):
            job.protocol.check()
    except KinetoscopeError as error:
        job.world.fail(error.message)


def _damages(objects: ObjectStore, oracle: Oracle) -> list[Turn]:
    """Return how the newest checkpoint may be damaged, by nobody's doing."""
    num_damaged = sum(save.damaged for save in oracle.saves)
    if num_damaged == _MOST_DAMAGED or oracle.result is not None:
        return []
    sound = [save for save in reversed(oracle.saves) if not save.damaged]
    whole = next((s for s in sound if objects.stat(f"{s.prefix}/{MANIFEST}")), None)
    if whole is None:
        return []
    prefix = whole.prefix

    def flip() -> None:
        oracle.world.tell(f"{prefix} is damaged")
        oracle.damaged(prefix)
        key = f"{prefix}/weights.safetensors"
        objects.put_bytes(key, bytes(64))

    def lose() -> None:
        oracle.world.tell(f"{prefix} loses its manifest")
        oracle.damaged(prefix)
        objects.delete(f"{prefix}/{MANIFEST}")

    return [Turn("damage", flip), Turn("loss", lose)]
