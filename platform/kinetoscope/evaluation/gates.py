"""Whether scores pass the gates that a config sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kinetoscope.evaluation.config import Gate


def failures(scores: Mapping[str, float], gates: Sequence[Gate]) -> list[str]:
    """Say of each gate that is not passed what was measured and what is asked.

    Args:
        scores: by metric; a score that is absent or not a number passes no gate.
        gates: the bounds.
    """
    return [told for gate in gates if (told := _failure(scores.get(gate.metric), gate))]


def _failure(value: float | None, gate: Gate) -> str:
    if value is None:
        return f"{gate.metric} was not measured"
    if gate.min is not None and not value >= gate.min:
        return f"{gate.metric} is {value:.4g}, at least {gate.min:g} is asked"
    if gate.max is not None and not value <= gate.max:
        return f"{gate.metric} is {value:.4g}, at most {gate.max:g} is asked"
    return ""
