"""When a candidate becomes the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kinetoscope.evaluation.config import Gate, Registration


class Decision(NamedTuple):
    """Whether to promote, and why."""

    promote: bool
    reason: str


def decide(
    candidate: Mapping[str, float], champion: Mapping[str, float] | None, config: Registration
) -> Decision:
    """Compare a candidate's scores with the champion's.

    Args:
        candidate: scores by metric.
        champion: the champion's scores; None while there is no champion.
        config: gates and the metrics that decide.
    """
    failed = [told for gate in config.gates if (told := _failure(candidate, gate))]
    if failed:
        return Decision(False, "; ".join(failed))
    if champion is None:
        return Decision(True, "there was no champion")
    for rule in config.champion:
        mine, theirs = candidate.get(rule.metric), champion.get(rule.metric)
        if mine is not None and theirs is not None:
            better = mine > theirs if rule.direction == "max" else mine < theirs
            word = "beats" if better else "does not beat"
            return Decision(better, f"{rule.metric} {mine:.4g} {word} the champion's {theirs:.4g}")
    names = ", ".join(rule.metric for rule in config.champion)
    return Decision(False, f"the champion and the candidate share none of {names}")


def _failure(scores: Mapping[str, float], gate: Gate) -> str:
    value = scores.get(gate.metric)
    if value is None:
        return f"gate: {gate.metric} was not measured"
    if gate.min is not None and not value >= gate.min:
        return f"gate: {gate.metric} is {value:.4g}, at least {gate.min:g} is asked"
    if gate.max is not None and not value <= gate.max:
        return f"gate: {gate.metric} is {value:.4g}, at most {gate.max:g} is asked"
    return ""
