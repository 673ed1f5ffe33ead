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
