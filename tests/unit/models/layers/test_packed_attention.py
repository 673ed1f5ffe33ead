"""Attention over packed text: one operator, whatever the lengths, and the kernels behind it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import pytest
import torch
from tiny.gpu_kernels import StandIn, gpu_kernels_on_the_cpu, spelled_out
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kinetoscope.models.layers import packed_kernels
from kinetoscope.models.layers.packed_attention import attend_to_packed
from kinetoscope.models.layers.packed_kernels import Kernel, kernel_for

HEADS, WIDTH, QUERIES = 2, 8, 5
LENGTHS = [(2, 4, 3), (4, 4, 4), (1, 1, 1), (7,), (1, 300, 31)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _inputs(
    lengths: tuple[int, ...], *, spare: int = 3, width: int = WIDTH, dtype: torch.dtype
) -> tuple[list[Tensor], Tensor]:
    """Return queries, keys and values, with rows at the end that are nobody's, and the offsets."""
    draws = torch.Generator().manual_seed(sum(lengths))
    rows = (sum(lengths) + spare, HEADS, width)
    shapes = ((len(lengths), QUERIES, HEADS, width), rows, rows)
    qkv = [torch.randn(*shape, generator=draws).to(dtype).requires_grad_() for shape in shapes]
    return qkv, torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)


def _with_gradients(attended: Tensor, qkv: list[Tensor]) -> list[Tensor]:
    draws = torch.Generator().manual_seed(1)
    grad = torch.randn(attended.shape, generator=draws).to(attended.dtype)
    return [attended, *torch.autograd.grad(attended, qkv, grad)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_each_sample_attends_to_its_own_keys(lengths: tuple[int, ...], dtype: torch.dtype) -> None:
    qkv, offsets = _inputs(lengths, dtype=dtype)
    exact = [x.detach().double().requires_grad_() for x in qkv]
    expected = _with_gradients(spelled_out(exact[0], exact[1], exact[2], offsets), exact)
    attended = attend_to_packed(qkv[0], qkv[1], qkv[2], offsets, 300)
    assert attended.is_contiguous()
    atol = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 4e-2}[dtype]
    for ours, theirs in zip(_with_gradients(attended, qkv), expected, strict=True):
        assert ours.dtype is dtype
        torch.testing.assert_close(ours.double(), theirs, atol=atol, rtol=atol)


def test_a_gradient_that_is_one_number_everywhere_arrives() -> None:
    qkv, offsets = _inputs((2, 3), dtype=torch.float32)
    attend_to_packed(qkv[0], qkv[1], qkv[2], offsets, 3).sum().backward()
    assert qkv[2].grad is not None
    torch.testing.assert_close(qkv[2].grad.sum(), torch.tensor(2.0 * QUERIES * HEADS * WIDTH))


# Raised by torch's own check.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("lengths", [(2, 4, 3), (4, 4, 4)])
def test_the_operator_is_what_torch_asks_of_one(lengths: tuple[int, ...]) -> None:
    qkv, offsets = _inputs(lengths, dtype=torch.float32)
    torch.library.opcheck(torch.ops.kinetoscope.attend_to_packed.default, (*qkv, offsets, 300))


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "head_width", "kernel"),
    [
        ("cpu", torch.bfloat16, (9, 0), 72, "loop"),
        ("cuda", torch.bfloat16, (9, 0), 72, "flash"),
        ("cuda", torch.bfloat16, (9, 0), 256, "flash"),
        ("cuda", torch.bfloat16, (9, 0), 288, "efficient"),
        ("cuda", torch.float16, (8, 0), 72, "flash"),
        ("cuda", torch.float16, (7, 5), 72, "efficient"),
        ("cuda", torch.float32, (9, 0), 72, "efficient"),
        ("privateuseone", torch.bfloat16, (9, 0), 72, "loop"),
    ],
)
def test_the_kernel_is_chosen_by_device_and_dtype(
    device: str, dtype: torch.dtype, capability: tuple[int, int], head_width: int, kernel: Kernel
) -> None:
    assert kernel_for(device, dtype, capability, head_width) == kernel


def test_gpus_have_no_kernel_for_doubles() -> None:
    with pytest.raises(ValueError, match=r"half precision or float32, not torch\.float64"):
        kernel_for("cuda", torch.float64, (9, 0), 72)


@pytest.mark.parametrize("lengths", [(2, 0, 3), (0, 0), (3, 0)])
def test_every_sample_needs_a_row(lengths: tuple[int, ...]) -> None:
    qkv, offsets = _inputs(lengths, dtype=torch.float32)
    with pytest.raises(ValueError, match="samples needs a row of text"):
        attend_to_packed(qkv[0], qkv[1], qkv[2], offsets, 300)


@pytest.mark.parametrize("width", [8, 72, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("device", ["cpu", "cuda", "meta"])
def test_shapes_are_known_without_computing(device: str, dtype: torch.dtype, width: int) -> None:
    if (device, dtype) == ("cuda", torch.float64):
        return
    operators = torch.ops.kinetoscope
    with FakeTensorMode():
        q = torch.empty(3, 50, 4, width, device=device, dtype=dtype)
        k, v = torch.empty(256, 2, 4, width, device=device, dtype=dtype).unbind(dim=1)
        offsets = torch.empty(4, device=device, dtype=torch.int32)
        out, lse = operators.attend_to_packed(q, k, v, offsets, 300)
        gradients = operators.attend_to_packed_backward(out, [q, k, v, offsets], 300, out, lse)
    assert (out.shape, out.dtype, out.device) == (q.shape, dtype, q.device)
    assert out.is_contiguous()
    assert lse.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert [x.shape for x in gradients] == [x.shape for x in (q, k, v)]
    assert {(x.dtype, x.device) for x in gradients} == {(dtype, q.device)}


@pytest.fixture(params=["flash", "efficient"])
def stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """On the CPU, attention goes through one of the GPU kernels, computed by a stand-in."""
    monkeypatch.setattr(packed_kernels, "kernel_for", lambda *_given: request.param)
    with gpu_kernels_on_the_cpu() as computed:
        yield computed


@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_gpu_kernels_are_asked_for_the_same(
    stand_in: StandIn, lengths: tuple[int, ...], width: int
) -> None:
    qkv, offsets = _inputs(lengths, width=width, dtype=torch.float32)
    expected = _with_gradients(spelled_out(qkv[0], qkv[1], qkv[2], offsets), qkv)
    actual = _with_gradients(attend_to_packed(qkv[0], qkv[1], qkv[2], offsets, 300), qkv)
    assert len(stand_in.calls) == 2
    for ours, theirs in zip(actual, expected, strict=True):
        used = slice(None) if ours.shape[0] == len(lengths) else slice(sum(lengths))
        torch.testing.assert_close(ours[used], theirs[used], atol=1e-5, rtol=1e-5)
