"""Half a gang must not hold its GPUs for a half that can't come."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from kinetoscope.kube.jobs.state import Observation
from kinetoscope.kube.jobs.suspension import Suspension

# What does not pass by itself. A pull of an image, a start of a node and a volume that is being
# attached leave no such reason.
_TROUBLE = frozenset(
    {"unschedulable", "quota", "pod-security", "image", "volume", "config", "create"}
)
_jitter = random.SystemRandom()


class Gang:
    """Tells when pods that have their place have waited too long for others that can't start.

    Args:
        minutes: how long they may; 0 is for ever.
        clock: seconds.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = minutes * 60
        self._clock = clock
        self._since: float | None = None
        self._pause: tuple[Suspension, float] | None = None

    def has_waited_too_long(self, seen: Observation) -> bool:
        """Judge by one more look at the job."""
        if seen.state == "unknown":  # says nothing: the time goes on
            return False
        if not self._is_stuck(seen):
            self._since = None
            return False
        now = self._clock()
        self._since = now if self._since is None else self._since
        return bool(self._seconds) and now - self._since >= self._seconds

    def pause_seconds(self) -> float:
        """Return how long to let go: by chance, so that two half gangs do not meet again."""
        return self._seconds * _jitter.uniform(1.0, 2.0)

    def has_paused(self, pause: Suspension) -> bool:
        """Tell whether a pause is over: by the clock, or after its time where clocks differ."""
        now = self._clock()
        if self._pause is None or self._pause[0] != pause:
            self._pause = (pause, now)
        return time.time() >= pause.until or now - self._pause[1] >= pause.until - pause.at

    @staticmethod
    def _is_stuck(seen: Observation) -> bool:
        holding = any(pod.node and not pod.failed and not pod.stopping for pod in seen.pods)
        kinds = {reason.kind for reason in seen.reasons}
        return (
            seen.state == "pending"
            and holding
            and bool(kinds & _TROUBLE)
            and ("scaling" not in kinds)
        )
