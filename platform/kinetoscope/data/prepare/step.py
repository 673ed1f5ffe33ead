"""The step prepare_data: from videos to a clip table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.prepare.prepare import (
    CLIPS_KEY,
    QUARANTINE_KEY,
    REPORT_KEY,
    VIDEOS_KEY,
    prepare,
)
from kinetoscope.data.prepare.prepared import Hooks, Prepared, Source
from kinetoscope.data.prepare.selection import Selection
from kinetoscope.data.report.data import QuarantineRow
from kinetoscope.data.sources.listing import SourceListing
from kinetoscope.data.sources.place import open_place
from kinetoscope.steps.worker import Outputs, StepContext, run_worker
from kinetoscope.storage.records import shown_name
from kinetoscope.telemetry.step_metrics import DataMetrics


def main(ctx: StepContext) -> Outputs | None:
    """Run the step; rank 0 does all, in processes of its own."""
    if ctx.rank:
        return None
    prepared = _prepare(ctx, _source(ctx), PrepareDataConfig.model_validate(ctx.config))
    return Outputs(
        artifacts={
            "clips": CLIPS_KEY,
            "videos": VIDEOS_KEY,
            "report": REPORT_KEY,
            "quarantine": QUARANTINE_KEY,
        },
        metrics=prepared.metrics(),
        summary={
            "videos": prepared.num_videos,
            "dropped": prepared.dropped,
            "quarantine": [asdict(row) for row in prepared.quarantine],
            "left_out": prepared.num_left_out,
            "captions": prepared.captions,
            "shown": prepared.shown,
            "notes": list(prepared.notes),
        },
    )


def count_clips(
    metrics: DataMetrics, selection: Selection, quarantine: Sequence[QuarantineRow]
) -> None:
    """Count the clips kept and dropped and the files not used, by reason."""
    metrics.clips("kept", count=selection.num_kept)
    for reason, count in selection.dropped.items():
        metrics.clips("dropped", reason, count)
    for reason, count in Counter(row.reason for row in quarantine).items():
        metrics.clips("quarantined", reason, count)


def _source(ctx: StepContext) -> Source:
    """Return the videos that the run was started with."""
    given = ctx.videos_input
    data = ctx.root_store.get_bytes(given.list_key)
    name = shown_name(ctx.root_store, given.list_key)
    listing = SourceListing.from_bytes(data, given.digest, name)
    return Source(open_place(ctx.videos), replace(listing, num_left_out=given.num_left_out))


def _prepare(ctx: StepContext, source: Source, config: PrepareDataConfig) -> Prepared:
    metrics = DataMetrics(ctx.run_id, ctx.name)
    ctx.serve(metrics)
    hooks = Hooks(
        progress=partial(ctx.progress, unit="videos"),
        stop_requested=lambda: ctx.stop_requested,
        selected=partial(count_clips, metrics),
    )
    return prepare(source, ctx.store, config, seed=ctx.seed, scratch=ctx.scratch, hooks=hooks)


if __name__ == "__main__":
    run_worker(main, has_metrics=True)
