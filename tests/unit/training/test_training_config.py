from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kinetoscope.training.dit.config import EncodeLatentsConfig, TrainDiTConfig
from kinetoscope.training.vae.config import TrainSpatialVAEConfig, TrainVAEConfig

LOOP = {"num_steps": 1, "optimizer": {"lr": 1e-3}}
CLIPS = {"num_frames": 17, "height": 32, "width": 32}
BUCKETS = {"buckets": [{"resolution": "240p", "num_frames": 51}]}


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        (TrainSpatialVAEConfig, {"plan": CLIPS, "loop": LOOP}, "plan.num_frames=17"),
        (
            TrainVAEConfig,
            {"objective": "pixels", "identity_loss": True, "plan": CLIPS, "loop": LOOP},
            "identity_loss=True belongs to",
        ),
        (
            TrainVAEConfig,
            {"objective": "spatial_latents", "plan": CLIPS, "loop": LOOP},
            "perceptual_weight=0.1 needs objective='pixels'",
        ),
        (
            TrainDiTConfig,
            {"plan": BUCKETS, "loop": LOOP},
            "text_encoder.width=64 must equal model.text_width=4096",
        ),
        (EncodeLatentsConfig, {"normalization": "measured"}, "normalization='measured' needs"),
        (
            TrainVAEConfig,
            {
                "objective": "pixels",
                "plan": CLIPS,
                "loop": LOOP | {"optimizer": {"lr": 1, "betas": [0.9, 1.0]}},
            },
            "betas",
        ),
    ],
)
def test_combinations_that_can_not_train_are_refused(
    kind: Any, config: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(config)
    assert told in str(caught.value)


def test_the_cache_is_told_all_that_a_stages_plan_depends_on() -> None:
    stage = TrainDiTConfig.model_validate(
        {
            "plan": BUCKETS,
            "loop": LOOP | {"micro_batches_per_step": 6},
            "text_encoder": {"kind": "seeded_table", "width": 64},
            "model": {"text_width": 64},
        }
    )
    assert stage.cached_plan.micro_batches_per_step == 6
    assert stage.cached_plan.buckets == stage.plan
