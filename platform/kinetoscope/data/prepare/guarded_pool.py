"""Worker processes whose crash or hang costs the one task that caused it.

A decoder that meets a hostile file may crash or never return. `concurrent.futures` then breaks as a
whole, without saying which task did it.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kinetoscope.core.errors import KinetoscopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
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
        out_of_memory: it asked for more memory than a worker may have.
    """

    timed_out: bool
    exit_code: int | None
    out_of_memory: bool = False


class GuardedPool(Generic[T, R]):
    """Runs ``function(task)`` in ``num_workers`` spawned processes, one task at a time each.

    Use as a context manager; leaving it kills the workers. They also end when this process dies.

    Args:
        function: picklable by name; exceptions that it raises are raised here.
        num_workers: number of processes.
        timeout_seconds: longest time that a task may take once its worker is ready.
        memory_bytes: most memory of a worker; None: as much as the machine has.
    """

    def __init__(
        self,
        function: Callable[[T], R],
        num_workers: int,
        timeout_seconds: float,
        *,
        memory_bytes: int | None = None,
    ) -> None:
        self._function = function
        self._memory_bytes = memory_bytes
        self._timeout_seconds = timeout_seconds
        self._workers: list[_Worker] = []
        self._num_workers = num_workers

    def __enter__(self) -> GuardedPool[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()

    def run(self, tasks: Iterable[T | None]) -> Iterator[tuple[T, R | Casualty] | None]:
        """Yield ``(task, its result)`` as they come; None each time nothing came.

        Args:
            tasks: asked for the next one when a worker is free; None where there is none yet,
                for which it may wait a moment.
        """
        todo = iter(tasks)
        while (more := self._hand_out(todo)) or self._busy():
            busy = self._busy()
            # With a worker free, the tasks' own waiting is enough: many need no worker at all.
            timeout = _POLL_SECONDS if len(busy) == self._num_workers or not more else 0
            ready = wait([worker.connection for worker in busy], timeout=timeout)
            for worker in busy:
                if worker.connection in ready or worker.overdue(self._timeout_seconds):
                    task, outcome = worker.task, self._outcome(worker)
                    if outcome is not None:
                        worker.busy = False
                        yield task, *outcome
            yield None

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.busy]

    def _hand_out(self, todo: Iterator[T | None]) -> bool:
        """Give tasks to free workers; return whether more may come."""
        while len(self._busy()) < self._num_workers:
            try:
                task = next(todo)
            except StopIteration:
                return False
            if task is None:
                return True
            self._free_worker().give(task)
        return True

    def _free_worker(self) -> _Worker:
        """Return a worker without a task; a dead one is no loss any more."""
        self._workers = [worker for worker in self._workers if worker.busy or worker.alive]
        free = [worker for worker in self._workers if not worker.busy]
        if not free:
            free = [_Worker(self._function, self._memory_bytes)]
            self._workers += free
        return free[0]

    def _outcome(self, worker: _Worker) -> tuple[R | Casualty] | None:
        """Receive what a worker sent; None when it only said that it is ready."""
        if not worker.connection.poll():
            return (Casualty(timed_out=True, exit_code=worker.kill()),)
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            exit_code = worker.kill()
            if worker.started_at is None:
                raise KinetoscopeError(f"a worker process could not start ({exit_code})") from None
            return (Casualty(timed_out=False, exit_code=exit_code),)
        if kind == "started":
            worker.started_at = time.monotonic()
            return None
        if kind == "out of memory":
            # What a failed task still holds is not known.
            return (Casualty(timed_out=False, exit_code=worker.kill(), out_of_memory=True),)
        if kind == "raised":
            raise _unpickled(value)
        return (value,)


class _Worker:
    """A process and this side of its pipe."""

    def __init__(self, function: Callable[[Any], Any], memory_bytes: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, function, os.getpid(), memory_bytes)
        )
        self._process.daemon = True
        self._process.start()
        theirs.close()
        self.task: Any = None
        self.busy = False
        self.started_at: float | None = None

    @property
    def alive(self) -> bool:
        return self._process.is_alive() and not self.connection.closed

    def give(self, task: Any) -> None:
        """Send a task."""
        self.task, self.busy, self.started_at = task, True, None
        self.connection.send(task)

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


def _serve(
    connection: Connection,
    function: Callable[[Any], Any],
    parent: int,
    memory_bytes: int | None,
) -> None:
    _limit_memory(memory_bytes)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    while True:
        try:
            task = connection.recv()
            connection.send(("started", None))
        except (EOFError, OSError):
            return
        try:
            answer = ("result", function(task))
        except MemoryError:
            answer = ("out of memory", None)
        except Exception as error:  # the process boundary: raised again in the parent
            answer = ("raised", _pickled(error))
        try:
            connection.send(answer)
        except (BrokenPipeError, ConnectionError):
            return


def _limit_memory(most_bytes: int | None) -> None:
    """Bound this process's memory, and let it be the first to go where the machine has none."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    if most_bytes is not None:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        if most == resource.RLIM_INFINITY or most > most_bytes:
            resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most))


def _pickled(error: Exception) -> bytes:
    """Return an exception for the parent: not every one can be pickled, and read again."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)  # noqa: S301 (written the line before)
    except Exception:
        return pickle.dumps(KinetoscopeError(f"{type(error).__name__}: {error}"))
    return data


def _unpickled(data: bytes) -> Exception:
    error = pickle.loads(data)  # noqa: S301 (from a process of ours)
    assert isinstance(error, Exception)
    return error


def _end_with(parent: int) -> None:
    """End this process, even inside a call that hangs, once its parent is gone."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)
