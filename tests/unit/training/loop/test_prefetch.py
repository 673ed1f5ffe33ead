from __future__ import annotations

import itertools
import threading

import pytest

from kinetoscope.training.loop.prefetch import prefetch


def test_work_comes_out_in_order_with_what_was_loaded_for_it() -> None:
    assert list(prefetch(range(5), lambda n: n * n, ahead=2)) == [(n, n * n) for n in range(5)]


def test_an_error_of_the_loader_is_raised_at_its_own_place() -> None:
    def load(number: int) -> int:
        if number == 2:
            raise ValueError("clip 2 is broken")
        return number

    feed = prefetch(range(5), load, ahead=3)
    assert [next(feed), next(feed)] == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="clip 2 is broken"):
        next(feed)


def test_it_loads_no_further_ahead_than_asked() -> None:
    loaded: list[int] = []
    enough = threading.Event()

    def load(number: int) -> int:
        loaded.append(number)
        if len(loaded) == 4:
            enough.set()
        return number

    feed = prefetch(itertools.count(), load, ahead=2)
    next(feed)
    assert enough.wait(5)
    feed.close()
    # One was taken, two waited in the queue, one waited to be queued.
    assert loaded == [0, 1, 2, 3]


def test_closing_ends_the_thread() -> None:
    feed = prefetch(itertools.count(), lambda n: n, ahead=2)
    next(feed)
    feed.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
