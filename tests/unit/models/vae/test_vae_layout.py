"""Which order in memory the VAE's activations have, on the CPU and as a GPU would run it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny.models import spatial_vae, temporal_vae, video_vae
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from kinetoscope.models.conv import fused_conv
from kinetoscope.models.vae.model import VideoVAE

CONFIG = video_vae(
    spatial=spatial_vae(block_widths=(16, 32)),
    temporal=temporal_vae(base_width=16, multipliers=(1, 2, 2)),
    chunk_frames=6,
    spatial_micro_batch=3,
)
# Widths of frames and of latents, which nothing else has.
WIDTHS = (22, 11)
# Pixels and latents have no more channels.
FEW_CHANNELS = 8
SHAPE = (2, 3, 6, 10, WIDTHS[0])


class RowOrder(TorchDispatchMode):
    """Notes each operation that gives activations whose neighbours in memory share a row."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and look at its results."""
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple | list) else (results,):
            if isinstance(result, Tensor) and result.dim() in (4, 5):
                layout = list(zip(result.stride(), result.shape, strict=True))
                in_rows = any(stride == 1 and size in WIDTHS for stride, size in layout)
                # Torch 2.5 allocates results so and gives them other strides in the end.
                allocates = func is torch.ops.aten.empty.memory_format
                if in_rows and result.shape[1] > FEW_CHANNELS and not allocates:
                    self.found.append(f"{func} {tuple(result.shape)} {result.stride()}")
        return results


def encode(vae: VideoVAE) -> None:
    with torch.no_grad():
        vae.encode(torch.rand(SHAPE))


def decode(vae: VideoVAE) -> None:
    with torch.no_grad():
        vae.decode(torch.randn(2, 4, 2, 5, WIDTHS[1]), 6)


def train(vae: VideoVAE) -> None:
    vae(torch.rand(SHAPE).requires_grad_()).video_BCTHW.square().mean().backward()


@pytest.fixture(params=["cpu", "gpu"])
def device_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The branches of the CPU, then those of a GPU."""
    if request.param == "gpu":
        for choice in ("native_norm_keeps_channels_last", "products_sum_exactly"):
            monkeypatch.setattr(fused_conv, choice, lambda _: False)
        # Torch's own copies to and fro there.
        monkeypatch.setattr(functional, "group_norm", None)


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("run", [encode, decode, train])
def test_activations_and_their_gradients_stay_channels_last(
    run: Callable[[VideoVAE], None], precision: torch.dtype
) -> None:
    vae = VideoVAE(CONFIG)
    casts = torch.autocast("cpu", precision, enabled=precision != torch.float32)
    with RowOrder() as orders, casts:
        run(vae)
    assert orders.found == []


NEEDS_DRIVER = pytest.mark.skipif(
    torch.__version__ < "2.6", reason="fake CUDA tensors of torch 2.5 need a driver"
)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_DRIVER)])
def test_it_is_built_and_run_on_fake_tensors_of_any_device(device: str) -> None:
    with FakeTensorMode(), torch.device(device), torch.no_grad():
        vae = VideoVAE(CONFIG)
        posterior = vae.encode(torch.rand(SHAPE))
        video = vae.decode(posterior.mean, 6)
    assert video.device.type == device
    assert video.shape == SHAPE


def test_it_is_built_trained_and_run_on_the_meta_device() -> None:
    with torch.device("meta"):
        vae = VideoVAE(CONFIG)
        for run in (encode, decode, train):
            run(vae)
    assert all(p.grad is not None and p.grad.shape == p.shape for p in vae.parameters())
