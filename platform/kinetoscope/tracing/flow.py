"""Steps of a diffusion transformer, traced at two small depths and extrapolated to its own.

The blocks of a depth are alike: bytes and operations are linear in the number of them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from kinetoscope.diffusion.config import RectifiedFlowConfig
from kinetoscope.models.base import build_transformer
from kinetoscope.models.config import TransformerConfig
from kinetoscope.tracing.step import StepTrace, StepTracer
from kinetoscope.tracing.tracker import KINDS, Peak
from kinetoscope.training.dit.objective import FlowObjective
from kinetoscope.training.loop.config import TrainLoopConfig

DEPTHS = (1, 2)
"""Those that are traced."""


class FlowTracer:
    """Traces steps of one transformer. Use it inside `fake_tensors`.

    Args:
        model: of the transformer; a kind whose config has no ``depth`` is traced as it is.
        flow: of the objective.
        loop: precision, optimizer, clipping and average.
        group: the ranks that share each sample (`tracing.step.fake_ranks`), of which one is traced;
            None: one has it to itself.
        whole: trace the model's own depth, however long it takes.
    """

    def __init__(
        self,
        model: TransformerConfig,
        flow: RectifiedFlowConfig,
        loop: TrainLoopConfig,
        *,
        group: ProcessGroup | None = None,
        whole: bool = False,
    ) -> None:
        self._model = model
        depth = getattr(model, "depth", 0)
        self._depths = (depth,) if whole or depth <= max(DEPTHS) else DEPTHS
        self._depth = depth
        self._tracers = []
        for traced_depth in self._depths:
            objective = _objective(_with(model, depth=traced_depth), flow)
            if group is not None:
                objective.parallelise(group)
            self._tracers.append(StepTracer(objective, loop))

    def trace(
        self,
        latent_size: tuple[int, int, int],
        batch_size: int,
        *,
        pixels: Tensor | None = None,
    ) -> StepTrace:
        """Trace a step of one micro-batch, with a frame mask.

        Args:
            latent_size: ``(t, h, w)``.
            batch_size: samples.
            pixels: levels of the clips, which a stage without a latent cache keeps beside the
                latents.
        """
        batch = _batch(self._model, latent_size, batch_size)
        if pixels is not None:
            batch["pixels"] = pixels
        traces = [tracer.trace(batch) for tracer in self._tracers]
        return traces[0] if len(traces) == 1 else _extrapolated(traces, self._depth)


def _objective(model: TransformerConfig, flow: RectifiedFlowConfig) -> FlowObjective:
    channels = model.latent_channels
    return FlowObjective(
        build_transformer(model), flow, shift=torch.zeros(channels), scale=torch.ones(channels)
    )


def _with(model: TransformerConfig, **values: object) -> TransformerConfig:
    """Return the config with the values of those fields that its kind has."""
    known = {name: value for name, value in values.items() if name in type(model).model_fields}
    return model.model_copy(update=known)


def _batch(
    model: TransformerConfig, latent_size: tuple[int, int, int], batch_size: int
) -> dict[str, Tensor]:
    latents = (batch_size, model.latent_channels, *latent_size)
    num_texts = batch_size * model.max_text_tokens
    return {
        **{name: torch.empty(latents) for name in ("mean", "logvar", "draw", "noise")},
        **{name: torch.empty(batch_size) for name in ("tau", "height", "width", "num_frames")},
        "fps": torch.empty(batch_size),
        # All texts are as long as they may be: packed, they are what they were padded.
        "text": torch.empty(num_texts, model.text_width),
        "text_places": torch.empty(num_texts, 2, dtype=torch.int64),
        "drop_text": torch.empty(batch_size, dtype=torch.bool),
        "frame_mask": torch.empty(batch_size, latent_size[0], dtype=torch.bool),
    }


def _extrapolated(traces: list[StepTrace], depth: int) -> StepTrace:
    low, high = traces

    def along(first: float, second: float) -> float:
        return first + (second - first) * (depth - DEPTHS[0]) / (DEPTHS[1] - DEPTHS[0])

    peaks = {
        phase: Peak(
            {
                kind: math.ceil(along(peak.bytes_by_kind[kind], high_peak.bytes_by_kind[kind]))
                for kind in KINDS
            },
            high_peak.operator,
        )
        for phase, peak, high_peak in (
            (name, low.peaks[name], high.peaks[name]) for name in low.peaks
        )
    }
    return StepTrace(
        peaks,
        along(low.forward_flops, high.forward_flops),
        along(low.backward_flops, high.backward_flops),
    )
