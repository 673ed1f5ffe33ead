"""When a candidate becomes the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kinetoscope.evaluation.gates import failures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kinetoscope.evaluation.config import Registration


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
    failed = failures(candidate, config.gates)
    if failed:
        return Decision(False, "gate: " + "; ".join(failed))
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
