from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest

from kinetoscope.core.errors import StorageError, SupersededError
from kinetoscope.steps.repeating import Repeating, persist


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_store_that_does_not_answer_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) < 5:
            raise StorageError("the server is away")

    repeating = Repeating("the heartbeat", work, 0.01)
    wait_until(lambda: len(calls) > 7)
    repeating.check()
    repeating.stop()
    after = len(calls)
    time.sleep(0.1)
    assert len(calls) == after
    assert [r.getMessage() for r in caplog.records] == [
        "the heartbeat: the server is away; going on, and trying again"
    ]


@pytest.mark.parametrize(
    "error", [SupersededError("attempt 1 by 2"), OSError(errno.ENOSPC, "No space left on device")]
)
def test_a_later_attempt_and_a_full_disk_end_it(error: Exception) -> None:
    def work() -> None:
        raise error

    repeating = Repeating("the heartbeat", work, 0.01)

    def ended() -> bool:
        try:
            repeating.check()
        except type(error):
            return True
        return False

    wait_until(ended)
    repeating.stop()


def test_ending_it_waits_for_what_is_under_way() -> None:
    entered, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        go_on.wait()
        done.set()

    repeating = Repeating("a slow write", work, 0.01)
    entered.wait()
    repeating.check()  # nobody who asks has to wait
    threading.Timer(0.2, go_on.set).start()
    repeating.stop()
    assert done.is_set()


def test_an_end_is_told_again_until_it_is_heard() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) < 2:
            raise StorageError("away")

    persist(work, seconds=30)
    assert len(calls) == 2
    with pytest.raises(StorageError):
        persist(lambda: (_ for _ in ()).throw(StorageError("away")), seconds=0)
