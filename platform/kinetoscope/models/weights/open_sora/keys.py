"""Keys of Open-Sora 1.2's config files, and our fields for them.

``..._FIELDS`` maps a key to the field of our config that means the same. ``..._SKIPPED`` only say
how the reference computes (flash attention, fused norms, sharding) or what its tools wrote there
(versions, class names, where weights were).
"""

from __future__ import annotations

EXTENSIONS = "kinetoscope"
"""Key of an exported ``config.json`` for what the reference has no key for."""

WRITTEN_BY_TOOLS = {
    "_class_name",
    "_diffusers_version",
    "_name_or_path",
    "architectures",
    "auto_map",
    "cases",
    "dtype",
    "model_type",
    "torch_dtype",
    "transformers_version",
}
STDIT_SKIPPED = {
    "enable_flash_attn",
    "enable_layernorm_kernel",
    "enable_sequence_parallelism",
    "force_huggingface",
    "from_pretrained",
    "input_size",
    "type",
}
STDIT_FIELDS = {
    "depth": "depth",
    "hidden_size": "width",
    "num_heads": "num_heads",
    "patch_size": "patch_size",
    "in_channels": "in_channels",
    "mlp_ratio": "mlp_ratio",
    "pred_sigma": "predict_sigma",
    "qk_norm": "qk_norm",
    "caption_channels": "text_width",
    "model_max_length": "max_text_tokens",
    "class_dropout_prob": "text_dropout",
    "input_sq_size": "input_sq_size",
    "freeze_y_embedder": "freeze_text_projection",
    "skip_y_embedder": "skip_text_embedder",
}
EXTENSION_FIELDS = ("final_layer_compat", "rounding")

SPATIAL_SKIPPED = {
    "cache_dir",
    "force_upcast",
    "from_pretrained",
    "latents_mean",
    "latents_std",
    "local_files_only",
    "micro_batch_size",
    "sample_size",
    "scaling_factor",
    "shift_factor",
    "subfolder",
    "type",
}
SPATIAL_FIELDS = {
    "block_out_channels": "block_widths",
    "layers_per_block": "layers_per_block",
    "latent_channels": "latent_channels",
    "norm_num_groups": "norm_groups",
}
SPATIAL_FIXED = {
    "in_channels": 3,
    "out_channels": 3,
    "act_fn": "silu",
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
SCALING_FACTOR = 0.18215
"""Of frame latents, whatever the spatial VAE's config says."""

TEMPORAL_SKIPPED = {"from_pretrained", "type"}
TEMPORAL_FIELDS = {
    "filters": "base_width",
    "num_res_blocks": "num_res_blocks",
    "channel_multipliers": "multipliers",
    "temporal_downsample": "temporal_downsample",
    "num_groups": "norm_groups",
}
ACTIVATIONS = {"swish": "silu", "relu": "relu"}

PIPELINE_SKIPPED = {"cal_loss", "freeze_vae_2d", "from_pretrained", "type"}
