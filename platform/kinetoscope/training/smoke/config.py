"""What the smoke job trains: the first stage of the transformer in the recipe ``smoke``.

Written out, since recipes are read in a layer above; a test holds the two together.
"""

from __future__ import annotations

from kinetoscope.training.dit.config import TrainDiTConfig

_TRANSFORMER = {
    "depth": 1,
    "width": 32,
    "num_heads": 2,
    "patch_size": (1, 2, 2),
    "predict_sigma": False,
    "text_width": 64,
    "max_text_tokens": 8,
    "input_sq_size": 32,
    "temporal_position": "rope+sincos",
    "final_layer_compat": False,
}
_VIDEO_VAE = {
    "spatial": {
        "block_widths": (16, 32, 32),
        "layers_per_block": 1,
        "norm_groups": 8,
        "latent_channels": 4,
        "scaling_factor": 1.0,
    },
    "temporal": {
        "latent_channels": 4,
        "base_width": 16,
        "multipliers": (1, 2, 2),
        "num_res_blocks": 1,
        "temporal_downsample": (True, True),
        "norm_groups": 8,
    },
    "chunk_frames": 17,
    "spatial_micro_batch": 256,
    "shift": (0.0, 0.0, 0.0, 0.0),
    "scale": (1.0, 1.0, 1.0, 1.0),
}
_BUCKET = {"resolution": {"height": 32, "width": 32}, "num_frames": 17, "batch_size": 4}
_LOOP = {
    "num_steps": 10,
    "micro_batches_per_step": 2,
    "optimizer": {"lr": 1e-3},
    "schedule": {"warmup_steps": 2},
    "ema_decay": 0.9,
    "checkpoint_every_steps": 5,
    "log_every_steps": 2,
}


def smoke_config() -> TrainDiTConfig:
    """Return the config."""
    return TrainDiTConfig.model_validate(
        {
            "model": _TRANSFORMER,
            "flow": {
                "timestep_distribution": "logit_normal",
                "shift_by_size": True,
                "base_size_px": 64,
            },
            "vae": _VIDEO_VAE,
            "text_encoder": {"kind": "seeded_table", "width": 64, "max_tokens": 8, "seed": 0},
            "num_draws": 4,
            "plan": {"buckets": [_BUCKET]},
            "loop": _LOOP,
        }
    )
