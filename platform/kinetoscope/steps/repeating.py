"""Store traffic beside the main loop, which a slow or absent store must not hold up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from kinetoscope.core.errors import CorruptError, StorageError, SupersededError
from kinetoscope.core.full_disk import disk_full_error

_JOIN_SECONDS = 90.0
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_LAST_TRIES = 3

_log = logging.getLogger(__name__)


class Repeating:
    """Does something again and again in a thread of its own, from now on.

    What a store that does not answer says of the world is nothing: that is logged once, and tried
    again. Only a later attempt and a full disk end it.

    Args:
        name: of what is done, for logs.
        work: what is done.
        seconds: between two times.
    """

    def __init__(self, name: str, work: Callable[[], None], seconds: float) -> None:
        self._name = name
        self._work = work
        self._seconds = seconds
        self._stop = threading.Event()
        self._failing = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what ended it.

        Raises:
            SupersededError: a later attempt has taken over.
            OSError: a disk is full.
        """
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End it, after what it is in the middle of: nothing of it comes later."""
        self.stop_all([self])

    @staticmethod
    def stop_all(works: Sequence[Repeating]) -> None:
        """End several, as `stop` does one; a store that does not answer holds up only once."""
        deadline = time.monotonic() + _JOIN_SECONDS
        for work in works:
            work._stop.set()
        for work in works:
            work._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._work()
            except SupersededError as error:
                self._failure = error
                return
            except (StorageError, OSError) as error:
                if isinstance(error, OSError) and disk_full_error(error) is not None:
                    self._failure = error
                    return
                self._tell(error)
            else:
                self._failing = False
            self._stop.wait(self._seconds)

    def _tell(self, error: Exception) -> None:
        if not self._failing:
            _log.warning("%s: %s; going on, and trying again", self._name, error)
        self._failing = True


class Following:
    """Does something again and again in a thread of its own, and once more at its end.

    For what nobody's work may wait for or fail by: whatever ails it is logged once, and it is tried
    again, until it was superseded. It waits before the first time.

    Args:
        name: of what is done, for logs.
        work: what is done; it is told whether it is the last time.
        seconds: between two times.
    """

    def __init__(self, name: str, work: Callable[[bool], None], seconds: float) -> None:
        self._name = name
        self._work = work
        self._seconds = seconds
        self._ending = threading.Event()
        self._failing = False
        self._is_left = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def finish(
        self, seconds: float, *, moved: Callable[[], int] | None = None, idle_seconds: float = 0
    ) -> None:
        """Do it once more, and wait for that, but no longer than it may take.

        Args:
            seconds: to wait at the most.
            moved: counts what was done, where to wait depends on that.
            idle_seconds: for which nothing may have been done.
        """
        self._ending.set()
        now = time.monotonic()
        give_up_at, seen, seen_at = now + seconds, -1, now
        while self._thread.is_alive() and now < give_up_at:
            self._thread.join(_LOOK_SECONDS)
            now = time.monotonic()
            if moved is not None and moved() != seen:
                seen, seen_at = moved(), now
            if moved is not None and now - seen_at > idle_seconds:
                break
        if self._thread.is_alive():
            _log.warning("%s: it takes too long; going on without the rest", self._name)
            self._is_left = True  # what comes of it yet, nobody waits for

    def _run(self) -> None:
        while not self._ending.wait(self._seconds):
            if not self._try(last=False):
                return
        for _ in range(_LAST_TRIES):
            if self._is_left or not self._try(last=True) or not self._failing:
                return
            time.sleep(_RETRY_SECONDS)
        if not self._is_left:
            _log.warning("%s: the rest is missing", self._name)

    def _try(self, *, last: bool) -> bool:
        """Do it; tell whether it may be done again."""
        try:
            self._work(last)
        except SupersededError:
            return False
        except Exception as error:
            if not (self._failing or self._is_left):
                _log.warning("%s: %s; trying again", self._name, error)
            self._failing = True
        else:
            self._failing = False
        return True


def may_pass(error: Exception) -> bool:
    """Tell whether an error of a store is one that a later try need not have.

    What is damaged, and a disk that is full, stay so.
    """
    if isinstance(error, StorageError):
        return not isinstance(error, CorruptError)
    return isinstance(error, OSError) and disk_full_error(error) is None


def persist(work: Callable[[], None], *, seconds: float) -> None:
    """Do something with a store, again for so long while it does not answer.

    Raises:
        StorageError: what it said last.
    """
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            work()
        except (StorageError, OSError) as error:
            if not may_pass(error) or time.monotonic() >= deadline:
                raise
            if not told:
                _log.warning("%s; trying again for up to %.0f s", error, seconds)
                told = True
            time.sleep(_RETRY_SECONDS)
        else:
            return
