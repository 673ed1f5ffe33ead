from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kinetoscope.core.errors import DataError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.data.sources.listing import SourceListing, require_videos
from kinetoscope.data.sources.place import with_versions
from kinetoscope.storage.own_folders import (
    MARKER,
    STORE_FOLDERS,
    WORKSPACE_FOLDERS,
    mark_own,
    own_folders,
)


def list_sources(directory: Path) -> SourceListing:
    return DirectoryPlace(directory).list()


def list_videos(directory: Path) -> SourceListing:
    return require_videos(list_sources(directory), str(directory))


def videos_digest(directory: Path, cache: Path) -> str:
    return with_versions(DirectoryPlace(directory), list_sources(directory), cache).digest


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    directory = tmp_path / "videos"
    (directory / "sub").mkdir(parents=True)
    for name in ("b.mp4", "a.MKV", "sub/c.webm", "notes.md", ".hidden.mp4"):
        (directory / name).write_bytes(name.encode())
    (directory / "captions.csv").write_text("path,text\n")
    return directory


def test_videos_and_sidecars_are_listed_by_name(videos: Path) -> None:
    listing = list_sources(videos)
    assert [video.name for video in listing.videos] == ["a.MKV", "b.mp4", "sub/c.webm"]
    assert [file.name for file in listing.sidecars] == ["captions.csv"]
    assert all(video.refused is None for video in listing.videos)


def test_what_is_no_file_of_the_directory_is_refused(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.mp4").write_bytes(b"secret")
    (videos / "d-out.mp4").symlink_to(tmp_path / "outside.mp4")
    (videos / "e-in.mp4").symlink_to("b.mp4")
    (videos / "f-broken.mp4").symlink_to("nowhere.mp4")
    (videos / "g-loop.mp4").symlink_to("g-loop.mp4")
    os.mkfifo(videos / "h-pipe.mp4")
    Path(os.fsdecode(bytes(videos / "i-\N{LATIN SMALL LETTER E WITH ACUTE}") + b"\xff.mp4")).touch()
    (videos / "linked").symlink_to(tmp_path)
    refused = {v.name[0]: v.refused for v in list_sources(videos).videos if v.refused}
    assert sorted(refused) == ["d", "f", "g", "h", "i"]
    assert refused["d"] == "a link that leaves the directory"
    assert refused["h"] == "not a regular file"
    assert refused["i"] == "its name is not valid UTF-8"
    assert videos_digest(videos, tmp_path / "cache.json").startswith("sha256:")


def test_a_missing_directory_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a directory of videos"):
        list_sources(tmp_path / "nowhere")


def test_the_digest_follows_content_names_and_sidecars_alone(videos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "state" / "digests.json"
    digest = videos_digest(videos, cache)
    (videos / "notes.md").write_text("other")
    os.utime(videos / "b.mp4", (1, 1))
    assert videos_digest(videos, cache) == digest
    cache.write_text("{broken")
    assert videos_digest(videos, cache) == digest
    seen = {digest}
    for name, content in (
        ("captions.csv", "path,text\nb.mp4,x\n"),
        ("b.mp4", "new"),
        ("z.mp4", ""),
    ):
        (videos / name).write_text(content)
        seen.add(videos_digest(videos, cache))
    (videos / "b.mp4").rename(videos / "y.mp4")
    seen.add(videos_digest(videos, cache))
    assert len(seen) == 5


def test_settled_files_are_not_read_again_and_fresh_ones_are(videos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "digests.json"
    time.sleep(2.1)
    digest = videos_digest(videos, cache)
    # Only a digest that is remembered can be a wrong one.
    right, wrong = digest_bytes(b"b.mp4"), digest_bytes(b"B.mp4")
    cache.write_text(cache.read_text().replace(right, wrong))
    assert videos_digest(videos, cache) != digest
    (videos / "b.mp4").write_bytes(b"1.mp4")
    fresh = videos_digest(videos, cache)
    times = (videos / "b.mp4").stat().st_mtime_ns
    (videos / "b.mp4").write_bytes(b"2.mp4")
    os.utime(videos / "b.mp4", ns=(times, times))
    assert videos_digest(videos, cache) != fresh


def test_a_directory_whose_path_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"videos\xff")
    folder.mkdir()
    with pytest.raises(DataError, match="no UTF-8 path") as told:
        list_sources(folder)
    told.value.message.encode()


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def _workspace(folder: Path) -> None:
    _fill(folder, "objects/steps/evaluate_dit/0/sample.mp4", "objects/runs/r1/run.json")
    _fill(folder, "scratch/a.mp4", "mlartifacts/1/sample.mp4", "mlflow.db", "mine/own.mp4")


@pytest.mark.parametrize("where", ["", "ws", "sub/deep/ws"])
@pytest.mark.parametrize("marked", [True, False], ids=["marked", "made before the marker"])
def test_a_workspace_inside_gives_no_videos(
    videos: Path, tmp_path: Path, where: str, marked: bool
) -> None:
    _fill(videos / where, "mine/own.mp4")
    digest = videos_digest(videos, tmp_path / "cache.json")
    workspace = videos / where
    _workspace(workspace)
    if marked:
        mark_own(workspace, WORKSPACE_FOLDERS)
    listing = list_sources(videos)
    mine = (Path(where) / "mine/own.mp4").as_posix()
    assert {video.name for video in listing.videos} == {"a.MKV", "b.mp4", "sub/c.webm", mine}
    assert listing.num_left_out == 3
    assert videos_digest(videos, tmp_path / "cache.json") == digest


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "made before the marker"])
def test_a_store_elsewhere_gives_no_videos(videos: Path, marked: bool) -> None:
    _fill(videos / "store", "steps/x/0/sample.mp4", "runs/r1/run.json", "models/m/a.mp4", "a.mp4")
    _fill(videos / "ws", "mlartifacts/1/sample.mp4", "mlflow.db")
    if marked:
        mark_own(videos / "store", STORE_FOLDERS)
    listing = list_sources(videos)
    assert {video.name for video in listing.videos if "/" in video.name} == {
        "store/a.mp4",
        "sub/c.webm",
    }
    assert listing.num_left_out == 4


def test_folders_of_a_user_s_by_the_same_names_are_looked_into(videos: Path) -> None:
    _fill(videos, "runs/a.mp4", "objects/b.mp4", "models/c.mp4", "logs/d.mp4", "steps/e.mp4")
    listing = list_sources(videos)
    assert len(listing.videos) == 8
    assert listing.num_left_out == 0


def test_a_hostile_marker_hangs_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MARKER)
    assert own_folders(tmp_path, ["objects"]) == frozenset()


def test_markers_of_a_store_and_a_workspace_in_one_folder_add_up(tmp_path: Path) -> None:
    mark_own(tmp_path, {"objects"})
    mark_own(tmp_path, {"steps"})
    assert own_folders(tmp_path, ["objects", "steps", "mine"]) == {"objects", "steps"}
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def test_no_video_is_told_with_what_is_looked_for_and_left_out(tmp_path: Path) -> None:
    _fill(tmp_path, "notes.md", "film.ogv")
    _workspace(tmp_path / "ws")
    (tmp_path / "ws/mine/own.mp4").unlink()
    wanted = r"ends in \.avi .*\.webm; left out: 3 folder"
    with pytest.raises(DataError, match=wanted) as caught:
        list_videos(tmp_path)
    assert "kino data synth" in (caught.value.hint or "")


def test_videos_that_may_not_be_opened_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to("nowhere.mp4")
    with pytest.raises(DataError, match=r"none of 1 videos .*a\.mp4: a broken link"):
        list_videos(tmp_path)
