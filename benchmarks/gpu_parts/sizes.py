"""What is measured: the models and shapes of the recipe ``open-sora-1.2``, and tiny ones.

Written out, since a bare GPU machine can't read recipes; tests/integration/test_gpu_benchmark.py
holds them to the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.training.engine.config import OptimizerConfig

FLOW = RectifiedFlowConfig(timestep_distribution="logit_normal", shift_by_size=True)
OPTIMIZER = OptimizerConfig(lr=1e-4, eps=1e-15)
GRAD_CLIP = 1.0
EMA_DECAY = 0.99
FPS = 24.0


@dataclass(frozen=True, slots=True)
class Clips:
    """A batch of clips; sizes in pixels."""

    batch: int
    num_frames: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        return self.num_frames, self.height, self.width


@dataclass(frozen=True, slots=True)
class Sizes:
    """Models and batches.

    Attributes:
        dit: the transformer that is trained and sampled.
        vae: the autoencoder.
        buckets: batches that the transformer is trained on, by resolution; those of stage 3.
        vae_clips: what the autoencoder encodes and decodes.
        vae_training: what it is trained on, as in its last stage.
        generated: the clip that is sampled.
        sampler: how.
        matmul: side of the square matrices whose product shows what the machine can do.
    """

    dit: STDiTConfig
    vae: VideoVAEConfig
    buckets: dict[str, Clips]
    vae_clips: Clips
    vae_training: Clips
    generated: Clips
    sampler: SamplerConfig
    matmul: int


FULL = Sizes(
    dit=STDiTConfig(
        freeze_text_projection=True, rounding="bfloat16", activation_checkpointing="full"
    ),
    vae=VideoVAEConfig(),
    # 9:16, cut to whole patches of latents.
    buckets={
        "144p": Clips(51, 51, 144, 256),
        "360p": Clips(8, 51, 352, 640),
        "720p": Clips(2, 51, 720, 1280),
    },
    vae_clips=Clips(1, 51, 352, 640),
    vae_training=Clips(1, 33, 256, 256),
    generated=Clips(1, 51, 720, 1280),
    sampler=SamplerConfig(num_steps=30, guidance=7.0),
    matmul=8192,
)

TINY = Sizes(
    dit=STDiTConfig(
        depth=2,
        width=32,
        num_heads=2,
        text_width=16,
        max_text_tokens=8,
        freeze_text_projection=True,
        rounding="bfloat16",
        activation_checkpointing="full",
    ),
    vae=VideoVAEConfig(
        spatial=SpatialVAEConfig(block_widths=(8, 8, 8, 8), norm_groups=4, layers_per_block=1),
        temporal=TemporalVAEConfig(base_width=8, norm_groups=4, num_res_blocks=1),
    ),
    buckets={
        "144p": Clips(3, 17, 32, 32),
        "360p": Clips(2, 17, 48, 64),
        "720p": Clips(1, 17, 64, 96),
    },
    vae_clips=Clips(1, 17, 32, 32),
    vae_training=Clips(1, 9, 32, 32),
    generated=Clips(1, 17, 64, 96),
    sampler=SamplerConfig(num_steps=3, guidance=7.0),
    matmul=64,
)
