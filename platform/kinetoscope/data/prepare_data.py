"""The step prepare_data: from a directory of videos to a clip table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from kinetoscope.core.errors import DataError
from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.prepare import CLIPS_KEY, QUARANTINE_KEY, REPORT_KEY, Hooks, prepare
from kinetoscope.steps.worker import Outputs, StepContext, run_worker


def main(ctx: StepContext) -> Outputs | None:
    """Run the step; rank 0 does all, in processes of its own."""
    if ctx.rank:
        return None
    piece = dict(ctx.config)
    directory, expected = Path(piece.pop("videos")), piece.pop("videos_digest", None)
    prepared = prepare(
        directory,
        ctx.store,
        PrepareDataConfig.model_validate(piece),
        seed=ctx.seed,
        hooks=Hooks(
            progress=lambda done, total: ctx.progress(done, total, unit="videos"),
            stop_requested=lambda: ctx.stop_requested,
        ),
    )
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
        },
    )


if __name__ == "__main__":
    run_worker(main)
