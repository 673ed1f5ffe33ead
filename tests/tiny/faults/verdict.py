"""What a case of a fault comes to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What was lost, or done otherwise than it should be; nothing is best.

    Attributes:
        lost: each in a few words.
        seconds: until the fault was acted on, where that matters.
    """

    lost: tuple[str, ...] = ()
    seconds: float | None = None

    def __str__(self) -> str:
        return "; ".join(self.lost) or "ok"


def verdict(*lost: str | list[str], seconds: float | None = None) -> Verdict:
    """Return a verdict of what each check says: nothing, or what was lost."""
    checks = [each if isinstance(each, list) else [each] for each in lost]
    told = [words for check in checks for words in check if words]
    return Verdict(tuple(told), seconds)


def unless(condition: bool, otherwise: str) -> str:
    """Return what to tell unless a condition holds."""
    return "" if condition else otherwise
