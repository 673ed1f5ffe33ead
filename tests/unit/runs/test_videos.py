"""A run finds its videos where they were moved, and takes no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny.steps import commit

from kinetoscope.config.load import load_config
from kinetoscope.core.errors import DataError, UserError
from kinetoscope.core.settings import workspace
from kinetoscope.data.sources.listing import SourceFile, SourceListing
from kinetoscope.pipelines.local import create_run
from kinetoscope.runs.pins import pinned_spec
from kinetoscope.runs.record_types import RunRecord, StepRecord
from kinetoscope.runs.records import Run
from kinetoscope.runs.videos import move_videos, videos_input


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"a")
    return tmp_path / "videos"


def test_the_videos_are_a_typed_input_of_the_first_step(videos: Path) -> None:
    run = create_run(load_config("smoke"), str(videos), workspace())
    spec = pinned_spec(run, run.own_start(), run.config, "prepare_data", {})
    assert spec.videos == run.record.videos
    assert "videos" not in str(spec.config)
    assert spec.videos_place == str(videos)
    assert spec.videos is not None
    data = run.store.get_bytes("videos.jsonl")
    listing = SourceListing.from_bytes(data, spec.videos.digest, "videos.jsonl")
    assert [file.name for file in listing.files] == ["a.mp4"]
    assert listing.files[0].digest.startswith("sha256:")


def test_the_disk_that_a_run_needs_is_told_before_it_is_made(videos: Path) -> None:
    told: list[tuple[str, bool]] = []

    def tell(line: str) -> None:
        told.append((line, workspace().scratch_path.exists()))

    create_run(load_config("smoke"), str(videos), workspace(), tell=tell)
    ((line, begun),) = told
    assert line.startswith("1 videos, 1 B; disk needed: about ")
    assert not begun


def test_renamed_videos_make_the_same_step_and_changed_ones_another(videos: Path) -> None:
    def key(folder: Path) -> str:
        run = create_run(load_config("smoke"), str(folder), workspace())
        return pinned_spec(run, run.own_start(), run.config, "prepare_data", {}).key

    before = key(videos)
    renamed = videos.rename(videos.with_name("renamed"))
    assert key(renamed) == before
    (renamed / "a.mp4").write_bytes(b"b")
    assert key(renamed) != before


def test_moved_videos_are_found_where_they_are_now(videos: Path) -> None:
    run = create_run(load_config("smoke"), str(videos), workspace())
    renamed = videos.rename(videos.with_name("renamed"))
    with pytest.raises(DataError, match="is not a directory"):
        move_videos(run, str(videos), workspace())
    move_videos(run, str(renamed), workspace())
    again = Run(run.root_uri, run.run_id)
    spec = pinned_spec(again, again.own_start(), again.config, "prepare_data", {})
    assert spec.videos_place == str(renamed)
    assert spec.videos is not None
    assert spec.videos.digest == run.record.videos.digest


def test_objects_that_were_never_read_are_not_taken_for_files_of_the_same_name(
    videos: Path,
) -> None:
    made = create_run(load_config("smoke"), str(videos), workspace())
    run = Run(made.root_uri, "rbbbbbbb")
    listing = SourceListing((SourceFile("a.mp4", 1, "etag:x"),))
    given = videos_input(run, "s3://bucket/videos", listing, workspace())
    record = RunRecord.model_validate(
        {**made.record.model_dump(), "run_id": run.run_id, "videos": given}
    )
    run.create(record, made.config_json, listing.to_bytes())
    with pytest.raises(UserError, match="has not read them all"):
        move_videos(run, str(videos), workspace())
    key = "steps/prepare_data/aa"
    made.store.put_bytes("x", b"")
    commit(f"{run.root_uri}/{key}", {})
    run.note_step(StepRecord(name="prepare_data", key=key, cached=False))
    move_videos(run, str(videos), workspace())
    assert run.videos.place == str(videos)
