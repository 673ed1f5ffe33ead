"""One side of a case of ``models.py``: builds ours or the eager model and runs it on command.

Started by ``models.py`` with a case (JSON) and a side. Reads one JSON command a line and answers
with one JSON object a line: seconds, peak memory above that after the imports, and numbers to
compare the sides by; or, for a profile, the shares of the time.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.models.vae.model import VideoVAE

# Written-out attention: products with scores, their scaling and the softmax, and their backward.
_ATTENTION = {
    *("aten::bmm", "aten::baddbmm", "aten::div", "aten::div_"),
    *("aten::_softmax", "aten::_softmax_backward_data"),
}
# Linear layers and convolutions, and their backward.
_LINEAR = {
    *("aten::mm", "aten::addmm", "aten::mkldnn_convolution", "aten::convolution_backward"),
    *("aten::thnn_conv2d", "aten::_slow_conv2d_forward", "aten::_slow_conv2d_backward"),
    *("aten::slow_conv3d_forward", "aten::slow_conv3d_backward", "aten::mkldnn_linear"),
}
_HEAD_WIDTH = 72
_TEXT_TOKENS = 300
# Mixed on purpose: padding is what packed text saves.
_TEXT_LENGTHS = (40, 180)
_COMPARED = 64

Run = Callable[[], Tensor]


def main() -> int:
    """Serve commands until the input ends."""
    case, side = json.loads(sys.argv[1]), sys.argv[2]
    eager = import_module(f"eager.{case['family']}")
    base_kib = _status_kib("VmRSS")
    build = _stdit if case["family"] == "stdit" else _vae
    model, runs = build(case, eager if side == "eager" else None)
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    _answer({"weights_mib": weights / 2**20})
    for line in sys.stdin:
        command = json.loads(line)
        run = _mode(model, runs, command["mode"])
        _answer(_profile(run) if command.get("profile") else _measure(model, run, base_kib))
    return 0


def _stdit(case: dict[str, Any], eager: Any) -> tuple[nn.Module, dict[str, Run]]:
    width, side = case["width"], 2 * math.isqrt(case["tokens"])
    config = STDiTConfig(depth=2, width=width, num_heads=width // _HEAD_WIDTH)
    model = STDiT(config) if eager is None else eager.EagerSTDiT(config)
    _fill(model)
    batch = len(_TEXT_LENGTHS)
    x = torch.randn(batch, 4, case["frames"], side, side)
    text = torch.randn(batch, _TEXT_TOKENS, config.text_width)
    mask = torch.arange(_TEXT_TOKENS) < torch.tensor(_TEXT_LENGTHS)[:, None]
    pixels = torch.full((batch,), 8.0 * side)
    given = {"height_B": pixels, "width_B": pixels, "fps_B": torch.full((batch,), 24.0)}
    times = torch.tensor([300.0, 700.0])

    def forward() -> Tensor:
        output: Tensor = model(x, times, text, mask, **given)
        return output

    return model, {"forward": forward, "train": lambda: forward().square().mean()}


def _vae(case: dict[str, Any], eager: Any) -> tuple[nn.Module, dict[str, Run]]:
    config = _vae_config(case["part"])
    model = VideoVAE(config) if eager is None else eager.EagerVideoVAE(config)
    _fill(model)
    frames, side = case["frames"], case["pixels"]
    video = torch.rand(1, 3, frames, side, side) * 2 - 1
    stride = config.spatial.stride
    latents = torch.randn(1, 4, frames, side // stride, side // stride)
    if case["part"] == "spatial":
        source, code = video, latents
        encode, decode = model.encode_frames, model.decode_frames
    else:
        source = latents
        encode, decode = _over_time(model, frames, eager=eager is not None)
        with torch.no_grad():
            # Not randn_like, which follows the order in memory: the sides have their own.
            code = torch.randn(encode(latents).shape)
    runs = {
        "encode": lambda: encode(source),
        "decode": lambda: decode(code),
        "train": lambda: (decode(encode(source)) - source).square().mean(),
    }
    return model, runs


def _vae_config(part: str) -> VideoVAEConfig:
    """Return a narrow VAE (a quarter in space, half in time) whose other part is tiny."""
    narrow = SpatialVAEConfig(block_widths=(32, 64, 128, 128), norm_groups=8)
    tiny = SpatialVAEConfig(block_widths=(8, 8, 8, 8), norm_groups=8, layers_per_block=1)
    half = TemporalVAEConfig(base_width=64, norm_groups=16)
    small = TemporalVAEConfig(base_width=16, norm_groups=16, num_res_blocks=1)
    if part == "spatial":
        return VideoVAEConfig(spatial=narrow, temporal=small)
    return VideoVAEConfig(spatial=tiny, temporal=half)


def _over_time(
    model: Any, frames: int, *, eager: bool
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return encoding and decoding of frame latents, piece by piece as the maths says."""
    if not eager:
        return lambda x: model.encode_time(x).mode(), lambda z: model.decode_time(z, frames)
    size, part = model.config.chunk_frames, model.temporal_vae
    lengths = [min(size, frames - start) for start in range(0, frames, size)]
    counts = [-(-length // part.stride) for length in lengths]

    def encode(x: Tensor) -> Tensor:
        return torch.cat([part.encode(piece).mode() for piece in x.split(lengths, dim=2)], 2)

    def decode(z: Tensor) -> Tensor:
        pieces = zip(z.split(counts, dim=2), lengths, strict=True)
        return torch.cat([part.decode(piece, length) for piece, length in pieces], 2)

    return encode, decode


def _fill(model: nn.Module) -> None:
    """Draw the same weights on both sides: by name, of a size that keeps activations near 1."""
    # Not before: building a model draws from the same generator.
    torch.manual_seed(0)
    fixed = {"shift", "scale"}
    for name, tensor in sorted(model.state_dict().items()):
        if name in fixed:
            continue
        # Copied, since a draw in place would follow the tensor's own order in memory.
        draw = torch.randn(tensor.shape)
        if tensor.ndim > 1:
            tensor.copy_(draw / math.sqrt(draw[0].numel()))
        else:
            tensor.copy_(float("norm" in name and name.endswith("weight")) + 0.05 * draw)


def _mode(model: nn.Module, runs: dict[str, Run], name: str) -> Run:
    def evaluate() -> Tensor:
        with torch.no_grad():
            return runs[name]()

    def train() -> Tensor:
        loss = runs[name]()
        loss.backward()
        return loss.detach()

    model.zero_grad(set_to_none=True)
    return train if name == "train" else evaluate


def _measure(model: nn.Module, run: Run, base_kib: int) -> dict[str, object]:
    gc.collect()
    # 5 sets the peak (VmHWM) back to what is resident now: proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    output = run()
    seconds = time.perf_counter() - start
    peak_kib = _status_kib("VmHWM") - base_kib
    grads = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
    values = output.flatten()[:: max(1, output.numel() // _COMPARED)].tolist()
    values.append(float(sum(grads, torch.zeros(()))))
    model.zero_grad(set_to_none=True)
    return {"seconds": seconds, "peak_kib": peak_kib, "values": values}


def _profile(run: Run) -> dict[str, object]:
    """Return the shares of attention and of linear layers and convolutions, by operation."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        start = time.perf_counter()
        run()
        total_us = (time.perf_counter() - start) * 1e6
    own_us = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    shares = {
        share: sum(own_us.get(operation, 0.0) for operation in operations) / total_us
        for share, operations in (("attention", _ATTENTION), ("linear", _LINEAR))
    }
    return {**shares, "top": sorted(own_us, key=lambda key: -own_us[key])[:6]}


def _status_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def _answer(told: dict[str, object]) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.exit(main())
