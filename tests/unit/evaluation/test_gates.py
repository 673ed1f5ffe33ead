"""Gates: what they refuse, and which of them a VAE's evaluation can check."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kinetoscope.evaluation.config import Gate, VAEEvaluation
from kinetoscope.evaluation.gates import failures

GATES = (Gate(metric="vae.psnr", min=30), Gate(metric="vae.lpips", max=0.1))
NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({"vae.psnr": 30.0, "vae.lpips": 0.1}, []),
        ({"vae.psnr": 29.5, "vae.lpips": 0.1}, ["vae.psnr is 29.5, at least 30 is asked"]),
        ({"vae.psnr": 31.0, "vae.lpips": 0.25}, ["vae.lpips is 0.25, at most 0.1 is asked"]),
        ({"vae.psnr": 31.0}, ["vae.lpips was not measured"]),
        (
            {"vae.psnr": NAN, "vae.lpips": NAN},
            ["vae.psnr is nan, at least 30 is asked", "vae.lpips is nan, at most 0.1 is asked"],
        ),
    ],
)
def test_every_gate_that_fails_is_told_with_value_and_bound(
    scores: dict[str, float], told: list[str]
) -> None:
    assert failures(scores, GATES) == told


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"metric": "vae.psnr"}, "needs min or max"),
        ({"metric": "psnr", "min": 5}, "'psnr' is not .* allowed: vae.psnr, vae.ssim, vae.lpips"),
        ({"metric": "rf_loss.mean", "max": 1}, "'rf_loss.mean' is not measured by evaluate_vae"),
        ({"metric": "vae.lpips", "max": 0.1}, "needs lpips_weights"),
        ({"metric": "vae.psnr", "min": -1}, "between 0 and inf, so a bound of -1"),
        ({"metric": "vae.ssim", "min": 90}, "between -1 and 1, so a bound of 90"),
        ({"metric": "vae.ssim", "max": NAN}, "bound of nan"),
    ],
)
def test_a_gate_that_a_vae_could_never_be_judged_by_is_refused(
    gate: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        VAEEvaluation.model_validate({"gates": [gate]})


def test_lpips_has_a_gate_where_its_weights_are_given() -> None:
    evaluation = VAEEvaluation(gates=GATES, lpips_weights="alexnet.safetensors")
    assert evaluation.gates == GATES
