"""Write the records of a new run."""

from __future__ import annotations

import time
from collections.abc import Callable

from kinetoscope.config.run import RunConfig
from kinetoscope.core.hashing import canonical_json, digest_bytes
from kinetoscope.core.settings import Workspace
from kinetoscope.data.sources.listing import SourceListing
from kinetoscope.data.sources.place import VideoPlace, with_versions
from kinetoscope.runs.identity import code_version, modules_of_step, weights_digests
from kinetoscope.runs.record_types import RunRecord
from kinetoscope.runs.records import Run
from kinetoscope.runs.steps import planned_steps
from kinetoscope.runs.videos import look_at_videos, videos_input
from kinetoscope.steps.contract import VideosInput

Looked = tuple[VideoPlace, SourceListing]


def write_run(
    run: Run,
    config: RunConfig,
    videos: str,
    workspace: Workspace,
    progress: Callable[[int, int], None] | None = None,
    looked: Looked | None = None,
) -> None:
    """Write what a new run is: its config, the list of its videos, its record.

    Args:
        run: that is new.
        config: of the run.
        videos: path or URI of the videos, as a user writes it.
        workspace: with which videos inside it move along.
        progress: called with the number of files whose content is known, and of all.
        looked: the place of the videos and what is there, if that is known.

    Raises:
        DataError: when the place of videos is missing, or has no video.
        ConfigError: files that the config names are missing.
    """
    place, listing = looked or look_at_videos(videos)
    weights = weights_digests(
        [step.piece for step in planned_steps(config)], workspace.digests_path
    )
    listing = with_versions(place, listing, workspace.digests_path, progress)
    config_json = canonical_json(config.to_json()).encode()
    where = videos_input(run, videos, listing, workspace)
    record = _record(run, config, digest_bytes(config_json), where, weights)
    run.create(record, config_json, listing.to_bytes())


def _record(
    run: Run, config: RunConfig, config_digest: str, videos: VideosInput, weights: dict[str, str]
) -> RunRecord:
    steps = planned_steps(config)
    return RunRecord(
        run_id=run.run_id,
        name=config.name,
        created_at=time.time(),
        videos=videos,
        config_digest=config_digest,
        weights=weights,
        steps=[step.name for step in steps],
        code_version=code_version(*{name for step in steps for name in modules_of_step(step)}),
    )
