"""The step evaluate_vae: how well the video VAE gives back clips that it never saw."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.artifacts.weights import load_autoencoder
from kinetoscope.core.errors import DataError, GateError, PreemptedError
from kinetoscope.data.video.clip_reader import ClipReader, to_frames, to_pixels
from kinetoscope.data.video.files import write_video
from kinetoscope.evaluation.config import EvaluateVAEConfig
from kinetoscope.evaluation.gates import failures
from kinetoscope.evaluation.heldout_clips import heldout
from kinetoscope.evaluation.image_metrics import psnr, ssim
from kinetoscope.evaluation.video_grid import enlarge, tile
from kinetoscope.models.base import VideoAutoencoder
from kinetoscope.models.device import begin_computing
from kinetoscope.models.vae.perceptual import PerceptualDistance
from kinetoscope.steps.worker import Outputs, StepContext, run_worker

if TYPE_CHECKING:
    from torch import Tensor

    from kinetoscope.data.video.display import Frames

_CELL_PX = 96

# Frames that go to the device at a time.
_PART_FRAMES = 17


def main(ctx: StepContext) -> Outputs | None:
    """Measure PSNR, SSIM and (with weights) LPIPS on held-out clips, and apply the gates."""
    if ctx.rank != 0:
        return None
    config = EvaluateVAEConfig.model_validate(ctx.config)
    table = heldout(open_clips(ctx.inputs["clips"], ctx.videos), config.num_clips)
    if not len(table):
        raise DataError("no held-out clip to evaluate the VAE on", hint="add videos")
    compute = begin_computing(config.precision)
    vae = load_autoencoder(config.vae, ctx.inputs["vae"]).to(compute.device)
    distance = _perceptual(config)
    reader = ClipReader(table, cache_bytes=0)
    size = (config.size.height, config.size.width)
    rows, shown = [], []
    for index, clip in enumerate(table):
        if ctx.stop_requested:
            raise PreemptedError("stopped while evaluating the VAE; it starts over")
        num_frames = min(config.size.num_frames, clip.num_frames)
        frames = reader.read(index, 0, num_frames, size=size)
        with compute.autocast():
            decoded = reconstruct(vae, to_pixels(frames))
        row = measure(decoded, to_pixels(frames), distance)
        rows.append({"frames": float(num_frames), **row})
        if index < config.grid_clips:
            shown.append((frames, to_frames(decoded)))
        ctx.progress(index + 1, len(table), "clips", kept=0, psnr=row["psnr"])
    metrics = frame_weighted_means(rows)
    _write_metrics(ctx, metrics, table.clip_id, rows)
    _write_grid(ctx, shown, float(table.fps[0]))
    failed = failures(metrics, config.gates)
    if failed:
        raise GateError(
            "the video VAE did not pass its gates: " + "; ".join(failed),
            hint="train the VAE longer or lower evaluate_vae.gates",
        )
    lpips = "measured" if distance else "not measured: no lpips_weights were given"
    return Outputs(
        artifacts={"metrics": "outputs/metrics", "grid": "outputs/grid"},
        metrics=metrics,
        summary={
            "clips": len(rows),
            "lpips": lpips,
            "gates": [g.to_json() for g in config.gates],
            "shown": table.caption[: len(shown)],
        },
    )


@torch.no_grad()
def reconstruct(vae: VideoAutoencoder, video_CTHW: Tensor) -> Tensor:
    """Return a clip ``C T H W`` after encoding (the posterior's mode) and decoding, in [-1, 1]."""
    parts = (part.to(vae.shift.device) for part in video_CTHW[None].split(_PART_FRAMES, dim=2))
    latents = (posterior.mode() for posterior in vae.encode_stream(parts))
    pieces = vae.decode_stream(latents, video_CTHW.shape[1])
    return torch.cat([piece[0].float().clamp(-1, 1).cpu() for piece in pieces], 1)


@torch.no_grad()
def measure(
    video_CTHW: Tensor, reference_CTHW: Tensor, distance: PerceptualDistance | None = None
) -> dict[str, float]:
    """Return the means over frames of ``psnr`` (dB), ``ssim`` and, with a distance, ``lpips``."""
    frames, reference = video_CTHW.transpose(0, 1), reference_CTHW.transpose(0, 1)
    unit, unit_reference = (frames + 1) / 2, (reference + 1) / 2
    row = {
        "psnr": float(psnr(unit, unit_reference).mean()),
        "ssim": float(ssim(unit, unit_reference).mean()),
    }
    if distance is not None:
        row["lpips"] = float(distance(frames, reference).mean())
    return row


def frame_weighted_means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean over all frames of each measure, as ``vae.<measure>``."""
    total = sum(row["frames"] for row in rows)
    names = [name for name in ("psnr", "ssim", "lpips") if name in rows[0]]
    return {f"vae.{name}": sum(row[name] * row["frames"] for row in rows) / total for name in names}


def _perceptual(config: EvaluateVAEConfig) -> PerceptualDistance | None:
    if config.lpips_weights is None:
        return None
    return PerceptualDistance("alex", config.lpips_weights)


def _write_metrics(
    ctx: StepContext, metrics: dict[str, float], clip_ids: list[str], rows: list[dict[str, float]]
) -> None:
    named = [{"clip_id": name, **row} for name, row in zip(clip_ids, rows, strict=True)]
    told = {"metrics": metrics, "clips": named}
    ctx.store.put_bytes("outputs/metrics/metrics.json", json.dumps(told, indent=1).encode())


def _write_grid(ctx: StepContext, shown: list[tuple[Frames, Frames]], fps: float) -> None:
    """Store a video with originals above their reconstructions."""
    clips = [pair[0] for pair in shown] + [pair[1] for pair in shown]
    path = ctx.scratch / "grid.mp4"
    write_video(path, tile([enlarge(clip, _CELL_PX) for clip in clips], len(shown)), fps)
    ctx.store.put_file("outputs/grid/reconstructions.mp4", path)


if __name__ == "__main__":
    run_worker(main)
