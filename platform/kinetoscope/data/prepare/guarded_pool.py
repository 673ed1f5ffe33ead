"""Worker processes whose crash or hang costs the one task that caused it.

A decoder that meets a hostile file may crash or never return. `concurrent.futures` then breaks as a
whole, without saying which task did it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kinetoscope.core.errors import KinetoscopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Casualty:
    """A task that took its worker with it.

    Attributes:
        timed_out: it ran too long and was killed; otherwise the process ended by itself.
        exit_code: of the process; negative: the signal's number.
    """

    timed_out: bool
    exit_code: int | None


class GuardedPool(Generic[T, R]):
    """Runs ``function(task)`` in ``num_workers`` spawned processes, one task at a time each.

    Use as a context manager; leaving it kills the workers. They also end when this process dies.

    Args:
        function: picklable by name; exceptions that it raises are raised here.
        num_workers: number of processes.
        timeout_seconds: longest time that a task may take once its worker is ready.
    """

    def __init__(
        self, function: Callable[[T], R], num_workers: int, timeout_seconds: float
    ) -> None:
        self._function = function
        self._timeout_seconds = timeout_seconds
        self._workers: list[_Worker] = []
        self._num_workers = num_workers

    def __enter__(self) -> GuardedPool[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()

    def run(self, tasks: Sequence[T]) -> Iterator[tuple[int, R | Casualty] | None]:
        """Yield ``(task's number, result)`` as they come; None each time nothing came."""
        todo = iter(enumerate(tasks))
        for _ in range(min(self._num_workers, len(tasks))):
            self._workers.append(_Worker(self._function))
            self._workers[-1].give(next(todo, None))
        while busy := [worker for worker in self._workers if worker.number is not None]:
            ready = wait([worker.connection for worker in busy], timeout=_POLL_SECONDS)
            for worker in busy:
                if worker.connection in ready or worker.overdue(self._timeout_seconds):
                    outcome = self._outcome(worker)
                    if outcome is not None:
                        yield outcome
                        self._replace_dead(worker).give(next(todo, None))
            yield None

    def _outcome(self, worker: _Worker) -> tuple[int, R | Casualty] | None:
        """Receive what a worker sent; None when it only said that it is ready."""
        number = worker.number
        if number is None:
            raise RuntimeError("an idle worker has no outcome")
        if not worker.connection.poll():
            return number, Casualty(timed_out=True, exit_code=worker.kill())
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            exit_code = worker.kill()
            if worker.started_at is None:
                raise KinetoscopeError(f"a worker process could not start ({exit_code})") from None
            return number, Casualty(timed_out=False, exit_code=exit_code)
        if kind == "started":
            worker.started_at = time.monotonic()
            return None
        if kind == "raised":
            raise value
        return number, value

    def _replace_dead(self, worker: _Worker) -> _Worker:
        if worker.alive:
            return worker
        fresh = _Worker(self._function)
        self._workers[self._workers.index(worker)] = fresh
        return fresh


class _Worker:
    """A process and this side of its pipe."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function, os.getpid()))
        self._process.daemon = True
        self._process.start()
        theirs.close()
        self.number: int | None = None
        self.started_at: float | None = None

    @property
    def alive(self) -> bool:
        return self._process.is_alive() and not self.connection.closed

    def give(self, task: tuple[int, Any] | None) -> None:
        self.number, self.started_at = None, None
        if task is not None:
            self.number = task[0]
            self.connection.send(task[1])

    def overdue(self, timeout_seconds: float) -> bool:
        return self.started_at is not None and time.monotonic() - self.started_at > timeout_seconds

    def kill(self) -> int | None:
        """End the process and return its exit code."""
        if not self.connection.closed:
            self.connection.close()
            # A process that is ending by itself tells why; a kill would hide it.
            self._process.join(_POLL_SECONDS)
            self._process.kill()
            self._process.join()
        return self._process.exitcode


def _serve(connection: Connection, function: Callable[[Any], Any], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(("started", None))
        try:
            answer = ("result", function(task))
        except Exception as error:  # the process boundary: raised again in the parent
            answer = ("raised", error)
        try:
            connection.send(answer)
        except (BrokenPipeError, ConnectionError):
            return


def _end_with(parent: int) -> None:
    """End this process, even inside a call that hangs, once its parent is gone."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)
