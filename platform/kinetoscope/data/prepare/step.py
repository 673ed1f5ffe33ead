"""The step prepare_data: from a directory of videos to a clip table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from kinetoscope.core.errors import DataError
from kinetoscope.core.settings import metrics_endpoint
from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.prepare.prepare import (
    CLIPS_KEY,
    QUARANTINE_KEY,
    REPORT_KEY,
    Hooks,
    Prepared,
    prepare,
)
from kinetoscope.data.prepare.report import QuarantineRow
from kinetoscope.data.prepare.selection import Selection
from kinetoscope.steps.worker import Outputs, StepContext, run_worker
from kinetoscope.telemetry.step_metrics import DataMetrics


def main(ctx: StepContext) -> Outputs | None:
    """Run the step; rank 0 does all, in processes of its own."""
    if ctx.rank:
        return None
    piece = dict(ctx.config)
    directory, expected = ctx.videos, piece.pop("videos_digest", None)
    prepared = _prepare(ctx, directory, PrepareDataConfig.model_validate(piece))
    if expected is not None and prepared.videos_digest != expected:
        raise DataError(
            f"the content of {directory} changed after the run was planned",
            hint="start the run again once nothing writes there any more",
        )
    return Outputs(
        artifacts={"clips": CLIPS_KEY, "report": REPORT_KEY, "quarantine": QUARANTINE_KEY},
        metrics=prepared.metrics(),
        summary={
            "videos": prepared.num_videos,
            "dropped": prepared.dropped,
            "quarantine": [asdict(row) for row in prepared.quarantine],
            "left_out": prepared.num_left_out,
        },
    )


def count_clips(
    metrics: DataMetrics, selection: Selection, quarantine: Sequence[QuarantineRow]
) -> None:
    """Count the clips kept and dropped and the files not used, by reason."""
    metrics.clips("kept", count=len(selection.candidates))
    for reason, count in selection.dropped.items():
        metrics.clips("dropped", reason, count)
    for reason, count in Counter(row.reason for row in quarantine).items():
        metrics.clips("quarantined", reason, count)


def _prepare(ctx: StepContext, directory: Path, config: PrepareDataConfig) -> Prepared:
    with DataMetrics(ctx.run_id, ctx.name) as metrics:
        address, port = metrics_endpoint()
        ctx.publish_metrics_url(metrics.serve(port, address))

        def progress(done: int, total: int) -> None:
            metrics.progress(done / total if total else 0.0)
            ctx.progress(done, total, unit="videos")

        hooks = Hooks(
            progress=progress,
            stop_requested=lambda: ctx.stop_requested,
            selected=partial(count_clips, metrics),
        )
        return prepare(directory, ctx.store, config, seed=ctx.seed, hooks=hooks)


if __name__ == "__main__":
    run_worker(main)
