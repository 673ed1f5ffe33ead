"""When a candidate becomes the champion."""

from __future__ import annotations

import pytest

from kinetoscope.evaluation.config import ChampionMetric, Gate, Registration
from kinetoscope.evaluation.promotion import decide

CONFIG = Registration(
    gates=(Gate(metric="vae.psnr", min=30),),
    champion=(
        ChampionMetric(metric="adherence.all"),
        ChampionMetric(metric="rf_loss.mean", direction="min"),
    ),
)
GOOD = {"vae.psnr": 33.0, "adherence.all": 0.9, "rf_loss.mean": 0.5}


@pytest.mark.parametrize(
    ("champion", "promoted", "reason"),
    [
        (None, True, "no champion"),
        ({"adherence.all": 0.8, "rf_loss.mean": 0.1}, True, "beats"),
        ({"adherence.all": 0.9, "rf_loss.mean": 0.9}, False, "does not beat"),
        ({"rf_loss.mean": 0.6}, True, "rf_loss.mean 0.5 beats"),
        ({"rf_loss.mean": 0.4}, False, "does not beat"),
        ({"other": 1.0}, False, "share none of"),
    ],
)
def test_the_first_shared_metric_decides_and_ties_keep_the_champion(
    champion: dict[str, float] | None, promoted: bool, reason: str
) -> None:
    decision = decide(GOOD, champion, CONFIG)
    assert decision.promote is promoted
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"vae.psnr": 29.0}, "29, at least 30"),
        ({}, "not measured"),
        ({"vae.psnr": float("nan")}, "nan"),
    ],
)
def test_a_failed_gate_is_named_and_keeps_a_model_from_promotion(
    scores: dict[str, float], reason: str
) -> None:
    decision = decide(scores, None, CONFIG)
    assert not decision.promote
    assert reason in decision.reason


@pytest.mark.parametrize(("loss", "promoted"), [(0.6, True), (0.5, False), (0.4, False)])
def test_by_default_the_loss_alone_decides(loss: float, promoted: bool) -> None:
    champion = {"rf_loss.mean": loss, "adherence.all": 0.1}
    assert decide(GOOD, champion, Registration()).promote is promoted
