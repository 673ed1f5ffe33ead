"""What the doctor concludes from the pods that a namespace accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kinetoscope.doctor.cluster.namespaces import judge_pods

if TYPE_CHECKING:
    from kinetoscope.doctor.cluster.namespaces import Verdict


def _verdicts(privileged: Verdict, root: Verdict, modest: Verdict) -> dict[str, Verdict]:
    return {"privileged": privileged, "root": root, "modest": modest}


NONE = _verdicts("unknown", "unknown", "unknown")
RESTRICTED = _verdicts("refused", "refused", "accepted")


@pytest.mark.parametrize(
    ("mine", "controllers", "label", "state", "found"),
    [
        (RESTRICTED, NONE, "restricted", "ok", "refused"),
        (RESTRICTED, RESTRICTED, "", "ok", "refused"),
        (
            _verdicts("accepted", "accepted", "accepted"),
            NONE,
            "",
            "bad",
            "a pod that is privileged",
        ),
        (
            RESTRICTED,
            _verdicts("accepted", "accepted", "accepted"),
            "restricted",
            "bad",
            "a TrainJob's pod that is privileged",
        ),
        (_verdicts("refused", "accepted", "accepted"), NONE, "baseline", "poor", "runs as root"),
        (
            RESTRICTED,
            _verdicts("refused", "accepted", "accepted"),
            "restricted",
            "poor",
            "a TrainJob's pod that runs as root",
        ),
        (
            _verdicts("refused", "refused", "refused"),
            NONE,
            "restricted",
            "bad",
            "keeps to restricted",
        ),
        (NONE, NONE, "restricted", "ok", "label says restricted"),
        (NONE, NONE, "baseline", "bad", "is baseline"),
        (NONE, NONE, "", "bad", "is missing"),
        (NONE, NONE, None, "skipped", "neither"),
    ],
)
def test_what_a_namespace_accepts_is_judged(
    mine: dict[str, Verdict],
    controllers: dict[str, Verdict],
    label: str | None,
    state: str,
    found: str,
) -> None:
    finding = judge_pods("runs", mine, controllers, label, "tried")
    assert finding.state == state
    assert found in finding.found
    if state in ("bad", "poor") and "keeps to" not in found:
        assert "kubectl label namespace runs" in finding.hint
