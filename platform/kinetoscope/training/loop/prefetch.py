"""Loading batches ahead of their use, in one thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Work = TypeVar("Work")
Loaded = TypeVar("Loaded")

_POLL_SECONDS = 0.2


def prefetch(
    work: Iterable[Work], load: Callable[[Work], Loaded], *, ahead: int
) -> Generator[tuple[Work, Loaded], None, None]:
    """Yield each piece of work with what was loaded for it, in order.

    Decoding and copying release the GIL, so one thread is enough to hide them. An error of ``load``
    is raised at its own place in the sequence; closing the iterator ends the thread.

    Args:
        work: may be endless.
        load: called in the thread.
        ahead: pieces that are loaded before they are asked for.
    """
    ready: queue.Queue[tuple[Work, Loaded] | BaseException | None] = queue.Queue(maxsize=ahead)
    closed = threading.Event()

    def put(value: tuple[Work, Loaded] | BaseException | None) -> None:
        while not closed.is_set():
            try:
                ready.put(value, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def run() -> None:
        try:
            for piece in work:
                if closed.is_set():
                    return
                put((piece, load(piece)))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=run, name="prefetch", daemon=True)
    thread.start()
    try:
        while (value := ready.get()) is not None:
            if isinstance(value, BaseException):
                raise value
            yield value
    finally:
        closed.set()
        thread.join()
