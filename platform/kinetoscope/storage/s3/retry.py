"""Doing something again after a failure that passes by itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

T = TypeVar("T")

# Not the global generator, whose state belongs to nobody: the operating system's.
_random = SystemRandom()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, for a limited time.

    See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter. The clock starts
    at the first failure, so that a long transfer that then breaks is tried again as well; the
    whole takes at most ``seconds`` more and one attempt.

    Args:
        seconds: how long failures are tried again; 0 never.
        base_seconds: upper bound of the first wait; doubled with each failure.
        cap_seconds: upper bound of every wait, and so of how late a return is noticed.
    """

    seconds: float = 60.0
    base_seconds: float = 0.1
    cap_seconds: float = 5.0

    def call(
        self,
        operation: Callable[[], T],
        is_transient: Callable[[Exception], bool],
        *,
        stop: Event | None = None,
    ) -> T:
        """Return what the operation returns, or raise its last error.

        Args:
            operation: safe to repeat.
            is_transient: tells whether trying again may help.
            stop: once set, nothing is tried again.
        """
        deadline = None
        num_failures = 0
        while True:
            try:
                return operation()
            except Exception as error:
                now = time.monotonic()
                deadline = now + self.seconds if deadline is None else deadline
                if now >= deadline or not is_transient(error):
                    raise
                wait = min(self._jitter(num_failures), deadline - now)
                num_failures += 1
                if _stopped_within(wait, stop):
                    raise

    def _jitter(self, num_failures: int) -> float:
        bound = min(self.cap_seconds, self.base_seconds * 2.0 ** min(num_failures, 30))
        return _random.uniform(0, bound)


def _stopped_within(seconds: float, stop: Event | None) -> bool:
    if stop is not None:
        return stop.wait(seconds)
    time.sleep(seconds)
    return False
