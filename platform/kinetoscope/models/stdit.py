"""STDiT: the spatial-temporal diffusion transformer of Open-Sora 1.2 (``STDiT3``).

State-dict keys are the reference's, so its released weights load as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kinetoscope.models.config import STDiTConfig
from kinetoscope.models.embeddings import (
    PatchEmbed,
    ScalarEmbedder,
    TextEmbedder,
    frame_positions,
    spatial_positions,
    unpatchify,
)
from kinetoscope.models.stdit_blocks import FinalLayer, RotaryEmbedding, STDiTBlock

_FPS_INIT_STD = 0.02


class STDiT(nn.Module):
    """Predicts the velocity of rectified flow from noisy latents, time, text and frame rate.

    Pairs of a spatial block (attention within each frame) and a temporal block (attention along
    each patch). Any latent size works. Build it under ``torch.device("meta")`` for its shapes
    alone; after ``to_empty``, ``reset_parameters`` sets every tensor of the state dict.
    """

    def __init__(self, config: STDiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.rope = RotaryEmbedding(width // config.num_heads)
        self.x_embedder = PatchEmbed(config.patch_size, config.in_channels, width)
        self.t_embedder = ScalarEmbedder(width)
        self.fps_embedder = ScalarEmbedder(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = TextEmbedder(config.text_width, width, config.max_text_tokens)
        self.spatial_blocks = self._blocks("space")
        self.temporal_blocks = self._blocks("time")
        self.final_layer = FinalLayer(
            width,
            math.prod(config.patch_size) * config.out_channels,
            compat=config.final_layer_compat,
        )
        if config.freeze_text_projection:
            self.y_embedder.y_proj.requires_grad_(False)
        self.reset_parameters()

    def forward(  # noqa: PLR0913 - one parameter per condition of the model
        self,
        x_BZthw: Tensor,
        timestep_B: Tensor,
        text_BSD: Tensor,
        text_mask_BS: Tensor | None = None,
        *,
        height_B: Tensor,
        width_B: Tensor,
        fps_B: Tensor,
        frame_mask_Bt: Tensor | None = None,
        drop_text_B: Tensor | None = None,
    ) -> Tensor:
        """Return the prediction ``(B, out_channels, t, h, w)`` in float32.

        Args:
            x_BZthw: noisy latents, of any size.
            timestep_B: times in [0, 1000], 0 data, 1000 noise.
            text_BSD: embeddings of the text encoder, at most ``max_text_tokens`` of them.
            text_mask_BS: True where a text token counts, at least one per sample; None is all.
            height_B: pixels. A batch has one size: the first sample's scales all positions.
            width_B: pixels, likewise.
            fps_B: frames per second; 120 for images.
            frame_mask_Bt: False marks clean condition frames, whose time is 0; None is all True.
            drop_text_B: True where the null text replaces the caption (whose mask stays).

        Raises:
            ValueError: the shapes do not fit the config.
        """
        self._check(x_BZthw, text_BSD, frame_mask_Bt)
        frames, rows, columns = self.x_embedder.grid(x_BZthw)
        x = self.x_embedder(x_BZthw.to(self.x_embedder.proj.weight.dtype))
        scale = (height_B[0].float() * width_B[0].float()).sqrt() / self.config.input_sq_size
        position = spatial_positions((rows, columns), x.shape[-1], scale=scale, device=x.device)
        x = x + position.to(x.dtype)

        fps_BD = self.fps_embedder(fps_B)
        time_BD = self.t_embedder(timestep_B) + fps_BD
        modulation = self._modulation(time_BD)
        clean_BD = None
        if frame_mask_Bt is not None:
            clean_BD = self.t_embedder(torch.zeros_like(timestep_B)) + fps_BD
            mask = frame_mask_Bt[:, :, None, None]
            modulation = torch.where(mask, modulation, self._modulation(clean_BD))

        text = self.y_embedder(text_BSD, drop_text_B)
        mask_BS = None if text_mask_BS is None else text_mask_BS.bool()
        x = self._run_blocks(x, text, modulation, mask_BS)
        patches = self.final_layer(x, time_BD, clean_BD, frame_mask_Bt)
        video = unpatchify(patches, (frames, rows, columns), self.config.patch_size)
        t, h, w = x_BZthw.shape[2:]
        return video[:, :, :t, :h, :w].float()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the initial weights: xavier-uniform, with temporal blocks that add nothing at first.

        Args:
            generator: where the draws come from; torch's global one by default.
        """
        self.rope.reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.RMSNorm):
                nn.init.ones_(module.weight)
            elif isinstance(module, STDiTBlock | FinalLayer):
                std = 1 / math.sqrt(self.config.width)
                nn.init.normal_(module.scale_shift_table, std=std, generator=generator)
        self._reset_embedders(generator)
        for block in _each(self.temporal_blocks):
            for layer in (block.attn.proj, block.cross_attn.proj, block.mlp.fc2):
                nn.init.zeros_(layer.weight)

    def _reset_embedders(self, generator: torch.Generator | None) -> None:
        patch = self.x_embedder.proj
        # torch's own default of a convolution: uniform in +-1/sqrt(fan_in), weight and bias alike
        bound = 1 / math.sqrt(patch.weight[0].numel())
        nn.init.uniform_(patch.weight, -bound, bound, generator=generator)
        if patch.bias is not None:
            nn.init.uniform_(patch.bias, -bound, bound, generator=generator)
        first, last = self.fps_embedder.mlp[0], self.fps_embedder.mlp[2]
        nn.init.normal_(first.weight, std=_FPS_INIT_STD, generator=generator)  # type: ignore[arg-type]  # nn.Sequential
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]  # nn.Sequential
        std = 1 / math.sqrt(self.config.text_width)
        nn.init.normal_(self.y_embedder.y_embedding, std=std, generator=generator)

    def _blocks(self, axis: Literal["space", "time"]) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            STDiTBlock(
                config.width,
                config.num_heads,
                axis=axis,
                mlp_ratio=config.mlp_ratio,
                qk_norm=config.qk_norm,
            )
            for _ in range(config.depth)
        )

    def _modulation(self, time_BD: Tensor) -> Tensor:
        modulation: Tensor = self.t_block(time_BD)
        return modulation.view(len(time_BD), 1, 6, -1)

    def _run_blocks(
        self, x: Tensor, text: Tensor, modulation: Tensor, text_mask: Tensor | None
    ) -> Tensor:
        rotation = self.rope(x.shape[1])
        recompute = self.config.activation_checkpointing == "full" and torch.is_grad_enabled()
        pairs = zip(_each(self.spatial_blocks), _each(self.temporal_blocks), strict=True)
        for index, (spatial, temporal) in enumerate(pairs):
            x = _call(spatial, recompute, x, text, modulation, text_mask)
            if index == 0 and self.config.temporal_position == "rope+sincos":
                position = frame_positions(x.shape[1], x.shape[-1], device=x.device)
                x = x + position[:, None].to(x.dtype)
            x = _call(temporal, recompute, x, text, modulation, text_mask, rotation)
        return x

    def _check(self, x_BZthw: Tensor, text_BSD: Tensor, frame_mask_Bt: Tensor | None) -> None:
        config = self.config
        if x_BZthw.ndim != 5 or x_BZthw.shape[1] != config.in_channels:  # noqa: PLR2004 - BZthw
            raise ValueError(
                f"latents are {tuple(x_BZthw.shape)}, not (B, {config.in_channels}, t, h, w)"
            )
        if text_BSD.shape[-1] != config.text_width or text_BSD.shape[1] > config.max_text_tokens:
            raise ValueError(
                f"text embeddings are {tuple(text_BSD.shape)}, not (B, at most "
                f"{config.max_text_tokens}, {config.text_width})"
            )
        frames = self.x_embedder.grid(x_BZthw)[0]
        if frame_mask_Bt is not None and tuple(frame_mask_Bt.shape) != (len(x_BZthw), frames):
            raise ValueError(
                f"frame mask is {tuple(frame_mask_Bt.shape)}, not {(len(x_BZthw), frames)}"
            )


def _each(blocks: nn.ModuleList) -> Iterator[STDiTBlock]:
    return (cast("STDiTBlock", block) for block in blocks)


def _call(block: STDiTBlock, recompute: bool, *inputs: object) -> Tensor:
    output: Tensor = (
        checkpoint(block, *inputs, use_reentrant=False) if recompute else block(*inputs)
    )
    return output
