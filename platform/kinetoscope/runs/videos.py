"""The source videos of a run: looked at when it begins, and found again where they were moved."""

from __future__ import annotations

from kinetoscope.core.errors import UserError
from kinetoscope.core.settings import Workspace
from kinetoscope.data.sources.listing import SourceListing, require_videos
from kinetoscope.data.sources.place import VideoPlace, open_place, place_name
from kinetoscope.runs.record_types import MovedVideos
from kinetoscope.runs.records import RUNS, VIDEOS_KEY, Run
from kinetoscope.steps.contract import VideosInput
from kinetoscope.steps.results import read_result
from kinetoscope.storage.open import portable_place

_FIRST_STEP = "prepare_data"


def look_at_videos(given: str) -> tuple[VideoPlace, SourceListing]:
    """Return a place of videos and what is there; raises ``DataError`` where that is no video."""
    place = open_place(place_name(given))
    return place, require_videos(place.list(), place.uri)


def videos_input(run: Run, given: str, listing: SourceListing, workspace: Workspace) -> VideosInput:
    """Return what the steps of a run are told of its videos.

    Args:
        run: that begins.
        given: path or URI of the videos, as a user writes it.
        listing: of the place, with versions.
        workspace: with which videos inside it move along.
    """
    return VideosInput(
        place=portable_place(run.root_uri, place_name(given), workspace.root),
        digest=listing.digest,
        list_key=f"{RUNS}/{run.run_id}/{VIDEOS_KEY}",
        num_left_out=listing.num_left_out,
    )


def move_videos(run: Run, given: str, workspace: Workspace) -> None:
    """Note that a run's videos lie elsewhere now. Steps verify that they are the same.

    Args:
        run: to go on.
        given: path or URI of the videos, as a user writes it.
        workspace: with which videos inside it move along.

    Raises:
        DataError: there is no video.
        UserError: it could not be told whether they are the same.
    """
    look_at_videos(given)
    if not (_knows_content(run) or _is_prepared(run)):
        raise UserError(
            f"run {run.run_id} began on objects of a bucket and has not read them all: what lies "
            f"at {given} can't be told from them",
            hint=f"kino run --videos {given} starts a run on them",
        )
    place = portable_place(run.root_uri, place_name(given), workspace.root)
    run.note_moved_videos(MovedVideos(place=place))


def _knows_content(run: Run) -> bool:
    data = run.store.get_bytes(VIDEOS_KEY)
    listing = SourceListing.from_bytes(data, run.record.videos.digest, VIDEOS_KEY)
    return all(file.digest for file in listing.files if not file.refused)


def _is_prepared(run: Run) -> bool:
    step = run.step(_FIRST_STEP)
    return step is not None and read_result(run.step_uri(step)) is not None
