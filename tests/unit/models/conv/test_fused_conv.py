from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from kinetoscope.models.conv import fused_conv
from kinetoscope.models.conv.causal_taps import causal_taps
from kinetoscope.models.conv.conv_ops import CausalConv, ConvOp, FrameConv, UpsampleConv
from kinetoscope.models.conv.fused_conv import Activation, conv, norm_act_conv

Layer = nn.Conv2d | nn.Conv3d
Plain = Callable[[Tensor, Layer], Tensor]


def frame_conv(x: Tensor, layer: Layer) -> Tensor:
    return functional.conv2d(x, layer.weight, layer.bias, padding=1)


def halving_conv(x: Tensor, layer: Layer) -> Tensor:
    return functional.conv2d(functional.pad(x, (0, 1, 0, 1)), layer.weight, layer.bias, stride=2)


def upsampling_conv(x: Tensor, layer: Layer) -> Tensor:
    up = functional.interpolate(x, scale_factor=2.0, mode="nearest")
    return functional.conv2d(up, layer.weight, layer.bias, padding=1)


def causal_conv(x: Tensor, layer: Layer) -> Tensor:
    front = layer.weight.shape[2] - 1
    side = layer.weight.shape[-1] // 2
    padded = functional.pad(x, (0, 0, 0, 0, front, 0))
    return functional.conv3d(padded, layer.weight, layer.bias, padding=(0, side, side))


def halving_causal_conv(x: Tensor, layer: Layer) -> Tensor:
    padded = functional.pad(x, (0, 0, 0, 0, 1, 0))
    return functional.conv3d(padded, layer.weight, layer.bias, stride=(2, 1, 1), padding=(0, 1, 1))


CASES: dict[str, tuple[ConvOp, Plain, int, tuple[int, ...]]] = {
    "frame": (FrameConv(), frame_conv, 3, (2, 4, 5, 3)),
    "frame_1x1": (
        FrameConv(),
        lambda x, m: functional.conv2d(x, m.weight, m.bias),
        1,
        (2, 4, 5, 3),
    ),
    "halving": (FrameConv(stride=2), halving_conv, 3, (2, 4, 5, 4)),
    "upsampling": (UpsampleConv(), upsampling_conv, 3, (2, 4, 2, 3)),
    "causal_1_frame": (CausalConv(), causal_conv, 3, (2, 4, 1, 3, 2)),
    "causal_2_frames": (CausalConv(), causal_conv, 3, (1, 4, 2, 3, 2)),
    "causal_5_frames": (CausalConv(), causal_conv, 3, (2, 4, 5, 3, 2)),
    "causal_1x1": (CausalConv(), causal_conv, 1, (2, 4, 3, 3, 2)),
    "halving_causal": (CausalConv(2), halving_causal_conv, 3, (2, 4, 6, 3, 2)),
    "halving_causal_2_frames": (CausalConv(2), halving_causal_conv, 3, (1, 4, 2, 3, 2)),
}


def layers(name: str, dtype: torch.dtype) -> tuple[Tensor, nn.GroupNorm, Layer]:
    _, _, kernel, shape = CASES[name]
    torch.manual_seed(len(name))
    kind = nn.Conv2d if len(shape) == 4 else nn.Conv3d
    norm = nn.GroupNorm(2, 4).to(dtype)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias)
    x = torch.randn(shape, dtype=dtype) + 0.5
    return x.requires_grad_(), norm, kind(4, 6, kernel).to(dtype)


@pytest.mark.parametrize("name", CASES)
def test_a_convolution_and_its_gradients_are_those_of_torch(name: str) -> None:
    op, plain, _, _ = CASES[name]
    x, _, layer = layers(name, torch.float64)
    ours, theirs = conv(x, layer, op), plain(x, layer)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    wanted = torch.autograd.grad((theirs * weights).sum(), [x, *layer.parameters()])
    got = torch.autograd.grad((ours * weights).sum(), [x, *layer.parameters()])
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("name", CASES)
def test_norm_activation_and_convolution_in_one_are_those_of_torch(
    name: str, activation: Activation
) -> None:
    op, plain, _, _ = CASES[name]
    x, norm, layer = layers(name, torch.float64)
    ours = norm_act_conv(x, norm, layer, op, activation)
    theirs = plain(getattr(functional, activation)(norm(x)), layer)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    inputs = [x, *norm.parameters(), *layer.parameters()]
    wanted = torch.autograd.grad((theirs * weights).sum(), inputs)
    got = torch.autograd.grad((ours * weights).sum(), inputs)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("name", CASES)
def test_off_the_cpu_the_norm_is_the_same_and_stays_channels_last(
    name: str, activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, _, _, _ = CASES[name]
    x, norm, layer = layers(name, torch.float64)
    inputs = [x, *norm.parameters(), *layer.parameters()]
    wanted = norm_act_conv(x, norm, layer, op, activation)
    wanted_grads = torch.autograd.grad(wanted.square().sum(), inputs)
    monkeypatch.setattr(fused_conv, "native_norm_keeps_channels_last", lambda _: False)
    monkeypatch.setattr(fused_conv, "products_sum_exactly", lambda _: False)
    # The kernel that refuses, or copies, channels-last tensors on a GPU is not called.
    monkeypatch.setattr(torch, "native_group_norm", None)
    got = norm_act_conv(x, norm, layer, op, activation)
    torch.testing.assert_close(got, wanted)
    grads = torch.autograd.grad(got.square().sum(), inputs)
    torch.testing.assert_close(grads, wanted_grads)


def test_off_the_cpu_the_norm_makes_no_copy_in_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fused_conv, "native_norm_keeps_channels_last", lambda _: False)
    x = torch.randn(2, 8, 6, 5).contiguous(memory_format=torch.channels_last)
    norm = nn.GroupNorm(4, 8)
    normed = fused_conv.group_norm(x, norm)
    assert normed.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(normed, norm(x))


@pytest.mark.parametrize("name", ["frame", "upsampling", "halving", "causal_5_frames"])
def test_gradients_equal_finite_differences(name: str) -> None:
    op, _, _, _ = CASES[name]
    x, norm, layer = layers(name, torch.float64)
    inputs = (x, *norm.parameters(), *layer.parameters())

    def run(*tensors: Tensor) -> Tensor:
        return norm_act_conv(tensors[0], norm, layer, op)

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("name", CASES)
def test_frozen_parameters_get_no_gradient_and_the_input_does(name: str) -> None:
    op, _, _, _ = CASES[name]
    x, norm, layer = layers(name, torch.float32)
    everything = norm_act_conv(x, norm, layer, op).square().sum()
    (wanted,) = torch.autograd.grad(everything, [x])
    norm.requires_grad_(False)
    layer.requires_grad_(False)
    norm_act_conv(x, norm, layer, op).square().sum().backward()
    torch.testing.assert_close(x.grad, wanted)
    assert all(p.grad is None for p in (*norm.parameters(), *layer.parameters()))


@pytest.mark.parametrize("name", CASES)
def test_autocast_rounds_to_bfloat16_once(name: str) -> None:
    op, plain, _, _ = CASES[name]
    x, norm, layer = layers(name, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain(functional.silu(norm(x)), layer)
        rounded = norm_act_conv(x, norm, layer, op)
    assert rounded.dtype == torch.bfloat16
    # Another order of sums may round the other way. Upsampling rounds sums of weights.
    atol = 2e-2 if name == "upsampling" else 5e-4
    torch.testing.assert_close(rounded, expected, atol=atol, rtol=2**-7)
    rounded.float().sum().backward()
    everything = (x, *norm.parameters(), *layer.parameters())
    assert {p.grad.dtype for p in everything if p.grad is not None} == {torch.float32}
    assert all(p.grad is not None for p in everything)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_upsampling_round_as_often_as_they_must(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 32, 12, 12, generator=generator).bfloat16()
    grad = torch.randn(2, 32, 24, 24, generator=generator).bfloat16()
    weight = torch.randn(32, 32, 3, 3, generator=generator).bfloat16()
    op, needs = UpsampleConv(), (True, True, False)
    exact_x, exact_weight, _ = op.backward(grad.double(), x.double(), weight.double(), needs)
    found_x, found_weight, _ = op.backward(grad, x, weight.to(dtype), needs)
    assert _times_rounded(found_weight, exact_weight) < 1.1
    # The sums of weights that it meets are rounded too.
    assert _times_rounded(found_x, exact_x) < 1.8


def _times_rounded(found: Tensor | None, exact: Tensor | None) -> float:
    """Return an error over that of rounding once."""
    assert found is not None
    assert exact is not None
    once = (exact.bfloat16() - exact).norm()
    return float((found - exact).norm() / once)


def test_only_the_input_is_kept_for_the_backward_pass() -> None:
    x, norm, layer = layers("frame", torch.float32)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, keep):
        norm_act_conv(x, norm, layer, FrameConv())
    own = {x.data_ptr(), layer.weight.data_ptr()}
    assert {t.data_ptr() for t in kept if t.numel() >= x.numel()} == own


def test_a_clip_too_short_for_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="1 frames are too few for stride 2"):
        causal_taps(1, 3, 2)
