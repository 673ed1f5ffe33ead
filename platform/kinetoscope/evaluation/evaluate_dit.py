"""The step evaluate_dit: the loss grid, samples, and adherence where it can be read from pixels."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import PreemptedError
from kinetoscope.core.keys import random_key
from kinetoscope.data.synthetic.read_back import read_clip, score
from kinetoscope.data.synthetic.vocabulary import parse
from kinetoscope.data.video.files import write_video
from kinetoscope.evaluation.config import EvaluateDiTConfig
from kinetoscope.evaluation.rf_loss import grid_metrics, rf_loss_grid
from kinetoscope.evaluation.sample_plan import (
    adherence_plan,
    sample_plan,
    shuffled_prompts,
    trained_combinations,
)
from kinetoscope.evaluation.sampling import CLIP_CRF, ClipMaker
from kinetoscope.evaluation.trained_model import trained_bundle
from kinetoscope.evaluation.video_grid import enlarge, tile
from kinetoscope.inference.pipeline import TextToVideo
from kinetoscope.models.base import build_transformer
from kinetoscope.models.device import begin_computing
from kinetoscope.steps.worker import Outputs, StepContext, run_worker
from kinetoscope.storage.records import read_record

if TYPE_CHECKING:
    from kinetoscope.data.clip_table import ClipTable
    from kinetoscope.data.synthetic.read_back import ClipReading
    from kinetoscope.evaluation.sample_plan import PlannedClip
    from kinetoscope.evaluation.sampling import StoredClip

_SAMPLES = "outputs/samples"
_RF_LOSS_PART = "parts/rf_loss.json"
_GRID_COLUMNS = 4
_CELL_PX = 96
_NOT_APPLICABLE = (
    "adherence was not measured: the training captions are not those of the synthetic set"
)


class _RFLossPart(Record):
    metrics: dict[str, float]
    cells: list[dict[str, Any]]


def main(ctx: StepContext) -> Outputs | None:
    """Measure the transformer; clips that a former attempt finished are not made again."""
    if ctx.rank != 0:
        return None
    config = EvaluateDiTConfig.model_validate(ctx.config)
    table = open_clips(ctx.inputs["clips"], ctx.videos)
    bundle = trained_bundle(ctx.inputs, table, config)
    models = TextToVideo(bundle, begin_computing(config.precision))
    asked = config.adherence if config.measures_adherence else None
    trained = trained_combinations(table) if asked else None
    if asked is None or trained is None:
        plan = sample_plan(table, config.num_samples, ctx.seed)
    else:
        plan = adherence_plan(trained, asked, ctx.seed)
    metrics, grid = _rf_loss(ctx, models, table, config)
    clips = _make_clips(ctx, models, plan)
    prompts = [clip.plan.prompt for clip in clips[: config.grid_clips]]
    summary: dict[str, Any] = {"clips": len(clips), "rf_loss": grid, "shown": prompts}
    readings = None
    if trained is None:
        off = "adherence was not measured: it is switched off in the config"
        summary["adherence"] = _NOT_APPLICABLE if asked else off
    else:
        readings = [read_clip(clip.frames) for clip in clips]
        metrics |= adherence_metrics(plan, readings, ctx.seed)
        summary["adherence"] = "measured"
    _write(ctx, config, clips, readings, fps=bundle.spec.fps)
    told = {"metrics": metrics, **summary}
    ctx.store.put_bytes("outputs/metrics/metrics.json", json.dumps(told, indent=1).encode())
    return Outputs(
        artifacts={"metrics": "outputs/metrics", "samples": _SAMPLES, "grid": "outputs/grid"},
        metrics=metrics,
        summary=summary,
    )


def adherence_metrics(
    plan: list[PlannedClip], readings: list[ClipReading], seed: int
) -> dict[str, float]:
    """Return the shares of clips that show what was asked for.

    ``adherence.color``, ``.shape``, ``.motion``, ``.all``, ``.strict`` over the ``.clips`` of
    trained combinations; ``.shuffled`` is ``.all`` of the same clips against each other's prompts,
    ``.untrained`` of clips from the initial weights, ``heldout.all`` of combinations never trained
    on. A kind without clips has no metric.
    """
    metrics: dict[str, float] = {}
    by_kind: dict[str, list[tuple[PlannedClip, ClipReading]]] = {}
    for clip, reading in zip(plan, readings, strict=True):
        by_kind.setdefault(clip.kind, []).append((clip, reading))
    names = {
        "trained": {name: name for name in ("color", "shape", "motion", "all", "strict")},
        "heldout": {"heldout.all": "all"},
        "untrained": {"untrained": "all"},
    }
    for kind, pairs in by_kind.items():
        scores = [_score(clip, reading) for clip, reading in pairs]
        for name, part in names[kind].items():
            metrics[f"adherence.{name}"] = sum(s[part] for s in scores) / len(scores)
    trained = by_kind.get("trained", [])
    others = shuffled_prompts([clip for clip, _ in trained], seed)
    right = [score(reading, other) for (_, reading), other in zip(trained, others, strict=True)]
    metrics["adherence.shuffled"] = sum(s["all"] for s in right) / len(right)
    metrics["adherence.clips"] = float(len(trained))
    return metrics


def _score(clip: PlannedClip, reading: ClipReading) -> dict[str, bool]:
    wanted = parse(clip.prompt)
    if wanted is None:
        raise ValueError(f"{clip.prompt!r} is not in the synthetic set's grammar")
    return score(reading, wanted)


def _rf_loss(
    ctx: StepContext, models: TextToVideo, table: ClipTable, config: EvaluateDiTConfig
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the loss grid's metrics and its cells, from a former attempt if there was one."""
    part = read_record(ctx.store, _RF_LOSS_PART, _RFLossPart)
    if part is None:

        def check_stop() -> None:
            if ctx.stop_requested:
                raise PreemptedError("stopped while measuring the loss grid; it starts over")

        cells = rf_loss_grid(models, table, config.rf_loss, seed=ctx.seed, on_batch=check_stop)
        rows = [
            {"size": cell.name, "clips": cell.clips, "loss_by_time": cell.loss_by_time}
            for cell in cells
        ]
        part = _RFLossPart(metrics=grid_metrics(cells), cells=rows)
        ctx.store.put_bytes(_RF_LOSS_PART, part.to_bytes())
    return part.metrics, part.cells


def _make_clips(ctx: StepContext, models: TextToVideo, plan: list[PlannedClip]) -> list[StoredClip]:
    @cache
    def untrained() -> TextToVideo:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_key("untrained", ctx.seed))
            return models.with_transformer(build_transformer(models.spec.dit).state_dict())

    maker = ClipMaker(ctx, _SAMPLES, len(plan))
    return [
        maker.make(clip, untrained if clip.kind == "untrained" else lambda: models) for clip in plan
    ]


def _write(
    ctx: StepContext,
    config: EvaluateDiTConfig,
    clips: list[StoredClip],
    readings: list[ClipReading] | None,
    *,
    fps: float,
) -> None:
    """Store what was read of each clip, the video grid and the enlarged sample."""
    rows = []
    for index, clip in enumerate(clips):
        plan = clip.plan
        row: dict[str, Any] = {"path": plan.name, "prompt": plan.prompt, "seed": plan.seed}
        row["kind"] = plan.kind
        if readings is not None:
            row |= {"read": readings[index].to_json(), "ok": _score(plan, readings[index])}
        rows.append(json.dumps(row))
    ctx.store.put_bytes(f"{_SAMPLES}/clips.jsonl", ("\n".join(rows) + "\n").encode())
    sample = enlarge(clips[0].frames, config.sample_height_px)
    shown = [enlarge(clip.frames, _CELL_PX) for clip in clips[: config.grid_clips]]
    grid = tile(shown, min(_GRID_COLUMNS, len(shown)))
    for key, frames in ((f"{_SAMPLES}/sample.mp4", sample), ("outputs/grid/grid.mp4", grid)):
        path = ctx.scratch / "shown.mp4"
        write_video(path, frames, fps, crf=CLIP_CRF)
        ctx.store.put_file(key, path)


if __name__ == "__main__":
    run_worker(main)
