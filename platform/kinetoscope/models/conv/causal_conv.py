"""A 3D convolution that looks only back in time."""

from __future__ import annotations

from torch import Tensor, nn

from kinetoscope.models.conv.conv_ops import CausalConv
from kinetoscope.models.conv.fused_conv import Activation, conv, norm_act_conv


class CausalConv3d(nn.Module):
    """Cubic 3D convolution, zero-padded in front of time and on both sides of space.

    Output frame ``i`` depends on input frames up to ``(i + 1) * stride_t - 1``; ``T`` frames (a
    multiple of ``stride_t``) become ``T / stride_t``, height and width stay (MAGVIT-v2,
    https://arxiv.org/abs/2310.05737, section 3.2).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd size along time, height and width.
        stride_t: stride along time; the strides along space are 1.
        bias: whether a bias is added.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride_t: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.op = CausalConv(stride_t)
        side = kernel_size // 2
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            kernel_size,
            stride=(stride_t, 1, 1),
            padding=(0, side, side),
            bias=bias,
        )

    def forward(self, x_BDThw: Tensor) -> Tensor:
        """Convolve ``B D T h w``."""
        return conv(x_BDThw, self.conv, self.op)

    def after_norm(
        self, x_BDThw: Tensor, norm: nn.GroupNorm, activation: Activation = "silu"
    ) -> Tensor:
        """Normalise, activate and convolve ``B D T h w``; keeps only its input for gradients."""
        return norm_act_conv(x_BDThw, norm, self.conv, self.op, activation)
