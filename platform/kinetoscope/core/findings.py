"""What a check of the doctor found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable

State = Literal["bad", "poor", "ok", "skipped"]
_ORDER = get_args(State)


class Finding(NamedTuple):
    """One check.

    Attributes:
        check: its name.
        state: ``bad`` stops a run, ``poor`` makes it slow or short of something.
        tried: what was done to find out.
        found: what came back.
        hint: what to do about it; empty when there is nothing to do.
    """

    check: str
    state: State
    tried: str
    found: str
    hint: str = ""


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings ordered by state, those of the same state as they came."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.state))


def any_bad(findings: Iterable[Finding]) -> bool:
    """Tell whether a run would fail."""
    return any(finding.state == "bad" for finding in findings)
