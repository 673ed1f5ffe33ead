"""A count of what is done, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Counter:
    """Counts on a terminal's stderr; says nothing elsewhere.

    Args:
        unit: what is counted.
        tell: writes a number, e.g. of bytes.
    """

    def __init__(self, unit: str, tell: Callable[[int], str] = str) -> None:
        self._unit = unit
        self._tell = tell
        self._shown = False

    def __enter__(self) -> Callable[[int, int], None]:
        return self._show

    def __exit__(self, *_: object) -> None:
        from kinetoscope.cli.output import end_count

        if self._shown:
            end_count()

    def _show(self, done: int, total: int) -> None:
        from kinetoscope.cli.output import show_count

        self._shown = True
        show_count(f"{self._tell(done)}/{self._tell(total)} {self._unit}".rstrip())
