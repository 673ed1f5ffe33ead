from __future__ import annotations

import threading

import pytest

from kinetoscope.storage.parallel import in_order
from kinetoscope.storage.s3.retry import RetryPolicy

HASTY = RetryPolicy(seconds=30.0, base_seconds=0.0001, cap_seconds=0.001)


class Failing:
    """An operation that fails a number of times."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times = times
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


def _is_connection(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def test_what_passes_is_tried_again_until_it_works() -> None:
    operation = Failing(5, ConnectionError("gone"))
    assert HASTY.call(operation, _is_connection) == "done"
    assert operation.calls == 6


def test_what_stays_is_raised_at_once() -> None:
    operation = Failing(5, PermissionError("never"))
    with pytest.raises(PermissionError):
        HASTY.call(operation, _is_connection)
    assert operation.calls == 1


def test_the_last_error_comes_when_the_time_is_up() -> None:
    operation = Failing(10**9, ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        RetryPolicy(seconds=0.01, base_seconds=0.001, cap_seconds=0.002).call(
            operation, _is_connection
        )
    assert operation.calls > 1
    never = Failing(1, ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        RetryPolicy(seconds=0).call(never, _is_connection)
    assert never.calls == 1


def test_nothing_is_tried_again_once_stopped() -> None:
    stop = threading.Event()
    stop.set()
    operation = Failing(1, ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        HASTY.call(operation, _is_connection, stop=stop)
    assert operation.calls == 1


def test_waits_grow_up_to_the_cap_and_are_spread() -> None:
    policy = RetryPolicy(base_seconds=1.0, cap_seconds=5.0)
    waits = [[policy._jitter(number) for _ in range(400)] for number in (0, 1, 2, 3, 100)]
    for bound, drawn in zip((1, 2, 4, 5, 5), waits, strict=True):
        assert max(drawn) <= bound
        assert min(drawn) < 0.1 * bound
        assert max(drawn) > 0.9 * bound


def test_results_come_in_the_order_of_the_tasks() -> None:
    first = threading.Event()

    def slow(_: threading.Event) -> int:
        assert first.wait(30)
        return 0

    def quick(_: threading.Event) -> int:
        first.set()
        return 1

    assert list(in_order([slow, quick, quick], num_threads=2)) == [0, 1, 1]


def test_the_first_failure_ends_all_tasks() -> None:
    begun: list[int] = []

    def wait(stop: threading.Event) -> None:
        begun.append(0)
        assert stop.wait(30)
        raise ConnectionError("a consequence")

    def fail(stop: threading.Event) -> None:
        begun.append(1)
        raise PermissionError("the cause")

    def never(stop: threading.Event) -> None:
        begun.append(2)

    with pytest.raises(PermissionError, match="the cause"):
        list(in_order([wait, fail, *([never] * 50)], num_threads=2))
    assert sorted(begun) == [0, 1]


def test_closing_the_results_ends_all_tasks() -> None:
    told: list[bool] = []

    def wait(stop: threading.Event) -> None:
        told.append(stop.wait(30))

    results = in_order([lambda _: None, wait, *([wait] * 50)], num_threads=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert all(told)
    assert len(told) <= 2
