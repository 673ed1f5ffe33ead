"""Tasks in threads: results in order, and the first failure ends them all."""

from __future__ import annotations

from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")


def in_order(tasks: Sequence[Callable[[Event], T]], *, num_threads: int) -> Iterator[T]:
    """Run tasks in threads and yield their results in the order of the tasks.

    When one fails, none is begun any more, those under way are told by the event that they are
    given, and the failure is raised once they have ended. So does closing the iterator.
    """
    stop = Event()
    failures: list[BaseException] = []

    def run(task: Callable[[Event], T]) -> T:
        if stop.is_set():
            raise CancelledError
        try:
            return task(stop)
        except BaseException as error:
            failures.append(error)
            stop.set()
            raise

    with ThreadPoolExecutor(min(num_threads, len(tasks)), "transfer") as pool:
        futures = [pool.submit(run, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            # The first failure: others may be its consequence.
            if failures:
                raise failures[0] from None
            raise
