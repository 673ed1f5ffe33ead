"""The rectified-flow loss of held-out clips over sizes, lengths and times.

As Open-Sora 1.2 evaluates it: times are the interior points of ``linspace(0, 1, n + 2)``, not
shifted by size, without masks or caption dropout; means are weighted by samples. Unlike there, a
clip's noise is fixed by (seed, clip, time), so that two checkpoints are compared on the same noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kinetoscope.core.keys import random_key
from kinetoscope.data.conditioning import encode_conditions
from kinetoscope.data.video.clip_reader import ClipReader, to_pixels
from kinetoscope.diffusion.flow_model import Conditions
from kinetoscope.diffusion.rectified_flow import keyed_noise, training_loss
from kinetoscope.evaluation.heldout_clips import heldout
from kinetoscope.inference.config import IMAGE_FPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from kinetoscope.data.clip_table import ClipTable
    from kinetoscope.evaluation.config import RFLossConfig
    from kinetoscope.inference.config import ClipSize
    from kinetoscope.inference.pipeline import TextToVideo


@dataclass(frozen=True, slots=True)
class RFLossCell:
    """Losses of one size and length.

    Attributes:
        size: of the clips.
        clips: how many were measured.
        loss_by_time: mean over clips at each time.
    """

    size: ClipSize
    clips: int
    loss_by_time: list[float]

    @property
    def name(self) -> str:
        """E.g. ``17x32x32``: frames, height, width."""
        return f"{self.size.num_frames}x{self.size.height}x{self.size.width}"

    @property
    def mean(self) -> float:
        """Mean over clips and times."""
        return sum(self.loss_by_time) / len(self.loss_by_time)


def interior_times(num_times: int) -> Tensor:
    """Return the interior points of ``linspace(0, 1, num_times + 2)``, float32."""
    return torch.linspace(0, 1, num_times + 2, dtype=torch.float64)[1:-1].float()


@torch.no_grad()
def rf_loss_grid(
    models: TextToVideo,
    table: ClipTable,
    config: RFLossConfig,
    *,
    seed: int,
    on_batch: Callable[[], None] | None = None,
) -> list[RFLossCell]:
    """Measure every size that has held-out clips long enough; others are left out.

    Args:
        models: VAE, text encoder and transformer.
        table: all clips; the held-out ones are read.
        config: sizes, number of clips and times.
        seed: of the noise.
        on_batch: called before each batch; may raise to stop.
    """
    cells = []
    for size in config.sizes:
        rows = heldout(table, config.num_clips, min_frames=size.num_frames)
        reader = ClipReader(rows, cache_bytes=0)
        sums = torch.zeros(config.num_times, dtype=torch.float64)
        for start in range(0, len(rows), config.batch_size):
            if on_batch is not None:
                on_batch()
            numbers = list(range(start, min(start + config.batch_size, len(rows))))
            clips = [
                to_pixels(reader.read(n, 0, size.num_frames, size=(size.height, size.width)))
                for n in numbers
            ]
            with models.compute.autocast():
                losses = _losses(models, rows.take(numbers), torch.stack(clips), config, seed)
            sums += losses.double().sum(dim=1).cpu()
        if len(rows):
            cells.append(RFLossCell(size, len(rows), (sums / len(rows)).tolist()))
    return cells


def grid_metrics(cells: list[RFLossCell]) -> dict[str, float]:
    """Return ``rf_loss.<T>x<H>x<W>`` of each cell and their sample-weighted ``rf_loss.mean``."""
    metrics = {f"rf_loss.{cell.name}": cell.mean for cell in cells}
    clips = sum(cell.clips for cell in cells)
    if clips:
        metrics["rf_loss.mean"] = sum(cell.mean * cell.clips for cell in cells) / clips
    return metrics


def _losses(
    models: TextToVideo, rows: ClipTable, video_BCTHW: Tensor, config: RFLossConfig, seed: int
) -> Tensor:
    """Return losses by time and sample."""
    device, flow = models.compute.device, models.spec.flow
    num_frames, height, width = video_BCTHW.shape[2:]
    x0 = models.vae.encode(video_BCTHW.to(device)).mode().float()
    text, mask = encode_conditions(rows.text, models.text_encoder)
    size = len(rows)
    fps = torch.from_numpy(rows.fps).float().to(device)
    conditions = Conditions(
        text_BSD=text,
        text_mask_BS=mask,
        height_B=torch.full((size,), float(height), device=device),
        width_B=torch.full((size,), float(width), device=device),
        fps_B=fps if num_frames > 1 else torch.full_like(fps, IMAGE_FPS),
    )
    losses = []
    for number, tau in enumerate(interior_times(config.num_times)):
        keys = [random_key("rf-loss", seed, clip_id, number) for clip_id in rows.clip_id]
        noise = keyed_noise(keys, tuple(x0.shape[1:]), device=device)
        timestep_B = torch.full((size,), float(tau) * flow.num_timesteps, device=device)
        losses.append(training_loss(models.dit, x0, noise, timestep_B, conditions, flow))
    return torch.stack(losses)
