"""STDiT: the spatial-temporal diffusion transformer of Open-Sora 1.2 (``STDiT3``).

State-dict keys are the reference's, so its released weights load as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from kinetoscope.models.base import Transformer
from kinetoscope.models.layers import recomputation
from kinetoscope.models.layers.attention import RotaryEmbedding
from kinetoscope.models.layers.embeddings import (
    PatchEmbed,
    ScalarEmbedder,
    frame_positions,
    spatial_positions,
    unpatchify,
)
from kinetoscope.models.layers.packed_text import PackedText
from kinetoscope.models.layers.sequence_parallel import TokenShare
from kinetoscope.models.stdit.blocks import FinalLayer, STDiTBlock
from kinetoscope.models.stdit.caption import TextEmbedder, repeated
from kinetoscope.models.stdit.config import STDiTConfig

_FPS_INIT_STD = 0.02


class STDiT(Transformer):
    """Predicts the velocity of rectified flow from noisy latents, time, text and frame rate.

    Pairs of a spatial block (attention within each frame) and a temporal block (attention along
    each patch). Any latent size works. Build it under ``torch.device("meta")`` for its shapes
    alone; after ``to_empty``, ``reset_parameters`` sets every tensor of the state dict.
    """

    config: STDiTConfig
    takes_packed_text = True

    def __init__(self, config: STDiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self._sequence_group: ProcessGroup | None = None
        self._bf16_rounding = config.rounding == "bfloat16"
        self.rope = RotaryEmbedding(width // config.num_heads, bf16_angles=self._bf16_rounding)
        self.x_embedder = PatchEmbed(config.patch_size, config.in_channels, width)
        self.t_embedder = ScalarEmbedder(width)
        self.fps_embedder = ScalarEmbedder(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = TextEmbedder(
            config.text_width, width, config.max_text_tokens, skip=config.skip_text_embedder
        )
        self.spatial_blocks = self._blocks("space")
        self.temporal_blocks = self._blocks("time")
        self.final_layer = FinalLayer(
            width,
            math.prod(config.patch_size) * config.out_channels,
            compat=config.final_layer_compat,
        )
        self._freeze()
        # On meta there is nothing to draw, and arithmetic costs seconds of imports.
        if not self.rope.freqs.is_meta:
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
        text_lengths: Sequence[int] | Tensor | None = None,
        text_places_P2: Tensor | None = None,
    ) -> Tensor:
        """Return the prediction ``(B, out_channels, t, h, w)`` in float32.

        Args:
            x_BZthw: noisy latents, of any size.
            timestep_B: times in [0, 1000], 0 data, 1000 noise.
            text_BSD: embeddings of the text encoder, at most ``max_text_tokens`` of them; their
                projections (`TextEmbedder.embed`) where the config says ``skip_text_embedder``.
            text_mask_BS: True (or not 0) where a text token counts, in any pattern; None is all.
                Fewer rows are repeated, as the frame rates', to the batch.
            height_B: pixels. A batch has one size: the first sample's scales all positions.
            width_B: pixels, likewise.
            fps_B: frames per second; 120 for images.
            frame_mask_Bt: False marks clean condition frames, whose time is 0; None is all True.
            drop_text_B: True where the null text replaces the caption (whose mask stays).
            text_lengths: instead of a mask, tokens of each sample where the text comes without
                padding, end to end, as ``(1, sum of the lengths, D)``.
            text_places_P2: likewise, where text ``P D`` was packed (`layers.packed_text.pack`).

        Raises:
            ValueError: the shapes do not fit the config or each other.
        """
        if sum(x is not None for x in (text_mask_BS, text_lengths, text_places_P2)) > 1:
            raise ValueError("packed text (text_lengths, text_places_P2) takes no text mask")
        if text_places_P2 is not None:
            text = self.y_embedder.embed_rows(text_BSD, text_places_P2, len(x_BZthw), drop_text_B)
        elif text_lengths is not None:
            text = self.y_embedder.embed_packed(text_BSD, text_lengths, drop_text_B)
        else:
            text = self.y_embedder.embed(text_BSD, text_mask_BS, drop_text_B)
        self._check(x_BZthw, text, frame_mask_Bt)
        grid = self.x_embedder.grid(x_BZthw)
        x = self._embed(x_BZthw, height_B[0], width_B[0])
        time_BD = self._time(timestep_B, fps_B)
        modulation, clean_BD = self._modulation(time_BD), None
        if frame_mask_Bt is not None:
            clean_BD = self._time(torch.zeros_like(timestep_B), fps_B)
            mask = frame_mask_Bt[:, :, None, None]
            modulation = torch.where(mask, modulation, self._modulation(clean_BD))
        share = self._share(num_tokens=x.shape[2])
        x = self._run_blocks(x if share is None else share.split(x), text, modulation, share)
        patches = self.final_layer(x, time_BD, clean_BD, frame_mask_Bt)
        patches = patches if share is None else share.gather(patches)
        video = unpatchify(patches, grid, self.config.patch_size)
        t, h, w = x_BZthw.shape[2:]
        return video[:, :, :t, :h, :w].float()

    def units(self) -> Iterator[nn.Module]:
        """Yield the blocks, spatial and temporal in turn."""
        for pair in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            yield from pair

    def parallelise(self, group: ProcessGroup | None) -> None:
        """Share the patches of each frame among the ranks of a group; None: keep them all here.

        The ranks must have the same weights and inputs (`models.layers.sequence_parallel`).
        """
        self._sequence_group = group

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

    def _freeze(self) -> None:
        config = self.config
        if config.trainable == "temporal":
            self.requires_grad_(False)
            self.temporal_blocks.requires_grad_(True)
        if config.freeze_text_projection or config.skip_text_embedder:
            self.y_embedder.y_proj.requires_grad_(False)

    def _embed(self, x_BZthw: Tensor, height: Tensor, width: Tensor) -> Tensor:
        """Return the tokens ``BtLD`` of the latents, with their positions in the frame."""
        area = self._rounded(height) * self._rounded(width)
        position = spatial_positions(
            self.x_embedder.grid(x_BZthw)[1:],
            self.config.width,
            scale=area.sqrt() / self.config.input_sq_size,
            device=x_BZthw.device,
            bf16_frequencies=self._bf16_rounding,
        )
        x: Tensor = self.x_embedder(x_BZthw.to(self.x_embedder.proj.weight.dtype))
        return x + position.to(x.dtype)

    def _time(self, timestep_B: Tensor, fps_B: Tensor) -> Tensor:
        """Return the embedding ``BD`` of times and frame rates."""
        fps = repeated(self._rounded(fps_B), len(timestep_B), "fps")
        embedded: Tensor = self.t_embedder(self._rounded(timestep_B)) + self.fps_embedder(fps)
        return embedded

    def _rounded(self, values: Tensor) -> Tensor:
        return values.bfloat16().float() if self._bf16_rounding else values.float()

    def _modulation(self, time_BD: Tensor) -> Tensor:
        modulation: Tensor = self.t_block(time_BD)
        return modulation.view(len(time_BD), 1, 6, -1)

    def _share(self, num_tokens: int) -> TokenShare | None:
        group = self._sequence_group
        return None if group is None else TokenShare(group, num_tokens)

    def _run_blocks(
        self, x: Tensor, text: PackedText, modulation: Tensor, share: TokenShare | None
    ) -> Tensor:
        rotation = self.rope(x.shape[1])
        mode = self.config.activation_checkpointing
        pairs = zip(_each(self.spatial_blocks), _each(self.temporal_blocks), strict=True)
        for index, (spatial, temporal) in enumerate(pairs):
            x = recomputation.call(spatial, mode, x, text, modulation, None, share)
            if index == 0 and self.config.temporal_position == "rope+sincos":
                position = frame_positions(x.shape[1], x.shape[-1], device=x.device)
                x = x + position[:, None].to(x.dtype)
            x = recomputation.call(temporal, mode, x, text, modulation, rotation)
        return x

    def _check(self, x_BZthw: Tensor, text: PackedText, frame_mask_Bt: Tensor | None) -> None:
        config = self.config
        if x_BZthw.ndim != 5 or x_BZthw.shape[1] != config.in_channels:  # noqa: PLR2004 - BZthw
            raise ValueError(
                f"latents are {tuple(x_BZthw.shape)}, not (B, {config.in_channels}, t, h, w)"
            )
        texts = len(text.offsets) - 1
        if texts != len(x_BZthw):
            raise ValueError(f"there are {texts} texts for {len(x_BZthw)} latents")
        frames = self.x_embedder.grid(x_BZthw)[0]
        if frame_mask_Bt is not None and tuple(frame_mask_Bt.shape) != (len(x_BZthw), frames):
            raise ValueError(
                f"frame mask is {tuple(frame_mask_Bt.shape)}, not {(len(x_BZthw), frames)}"
            )


MODEL = STDiT


def _each(blocks: nn.ModuleList) -> Iterator[STDiTBlock]:
    return (cast("STDiTBlock", block) for block in blocks)
