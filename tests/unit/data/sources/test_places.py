from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kinetoscope.core.errors import ConfigError, CorruptError, DataError
from kinetoscope.core.hashing import digest_file
from kinetoscope.data.config import PrepareDataConfig
from kinetoscope.data.prepare.fetching import check_room, fetch
from kinetoscope.data.sources.bucket import PrefixPlace
from kinetoscope.data.sources.directory import DirectoryPlace
from kinetoscope.data.sources.listing import SourceFile, SourceListing
from kinetoscope.data.sources.manifest import Manifest, ManifestFile, ManifestPlace, object_key
from kinetoscope.data.sources.place import open_place, place_name, with_versions
from kinetoscope.data.sources.upload import Uploaded, upload_videos
from kinetoscope.storage.directory import DirectoryStore

FILES = {"b.mp4": b"b", "sub/a.MKV": b"a", "copy.mp4": b"b", "captions.csv": b"path,text\n"}


@pytest.fixture
def videos(tmp_path: Path) -> DirectoryPlace:
    for name, content in {**FILES, ".hidden.mp4": b"", "notes.md": b""}.items():
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return DirectoryPlace(tmp_path / "videos")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def listed(place: DirectoryPlace) -> SourceListing:
    return with_versions(place, place.list(), place.path.parent / "digests.json")


def upload(place: DirectoryPlace, store: DirectoryStore, name: str = "cats") -> Uploaded:
    return upload_videos(place, listed(place), store, name)


def test_an_uploaded_set_is_to_a_run_what_the_directory_is(
    videos: DirectoryPlace, store: DirectoryStore, tmp_path: Path
) -> None:
    done = upload(videos, store)
    assert (done.num_files, done.num_sent, done.sent_bytes) == (4, 3, 12)
    place = open_place(place_name(str(tmp_path / "store/manifests/cats.json")))
    assert place.list() == listed(videos)
    assert place.list().digest == done.digest == listed(videos).digest
    for file in place.list().files:
        (tmp_path / "to").mkdir(exist_ok=True)
        assert place.fetch(file, tmp_path / "to").read_bytes() == FILES[file.name]
        assert place.bytes_of(file.name, file.digest).read(0, 99) == FILES[file.name]


@pytest.mark.parametrize("name", ["a\nb.mp4", "a\\b.mp4", "100% #?&\N{SNOWMAN}.mp4", " .mp4"])
def test_a_set_keeps_every_name_that_a_directory_can_have(
    videos: DirectoryPlace, store: DirectoryStore, name: str
) -> None:
    (videos.path / name).write_bytes(b"odd")
    upload(videos, store)
    assert ManifestPlace(store, "manifests/cats.json").list() == listed(videos)


def test_only_what_is_missing_is_sent(videos: DirectoryPlace, store: DirectoryStore) -> None:
    upload(videos, store)
    stamps = {stat.key: stat.etag for stat in store.list("objects")}
    (videos.path / "new.mp4").write_bytes(b"new")
    done = upload(videos, store, "dogs")
    assert done.replaced is None
    assert upload(videos, store, "cats").replaced == 4
    assert upload(videos, store, "cats").replaced is None
    assert (done.num_files, done.num_sent, done.sent_bytes) == (5, 1, 3)
    assert {
        k: v for s in store.list("objects") if (k := s.key) in stamps and (v := s.etag)
    } == stamps
    assert {stat.key for stat in store.list("manifests")} == {
        "manifests/cats.json",
        "manifests/dogs.json",
    }


def test_a_torn_object_is_sent_again(videos: DirectoryPlace, store: DirectoryStore) -> None:
    upload(videos, store)
    for stat in store.list("objects"):
        if stat.size_bytes == len(FILES["captions.csv"]):
            store.put_bytes(stat.key, b"path")
    assert upload(videos, store).num_sent == 1


def test_a_file_that_changes_before_it_is_sent_ends_the_upload(
    videos: DirectoryPlace, store: DirectoryStore
) -> None:
    listing = listed(videos)
    (videos.path / "b.mp4").write_bytes(b"B")
    with pytest.raises(DataError, match=r"b\.mp4 was changed or deleted while it was uploaded"):
        upload_videos(videos, replace(listing, files=listing.files[:1]), store, "cats")
    assert store.list() == []


def test_a_store_that_can_t_be_written_is_not_told_as_a_changed_video(
    videos: DirectoryPlace,
) -> None:
    with pytest.raises(FileNotFoundError, match="/proc/x"):
        upload_videos(videos, listed(videos), DirectoryStore(Path("/proc/x")), "cats")


def test_what_may_not_be_opened_is_told_and_left_out(
    videos: DirectoryPlace, store: DirectoryStore
) -> None:
    (videos.path / "broken.mp4").symlink_to("nowhere.mp4")
    done = upload(videos, store)
    assert list(done.refused) == ["broken.mp4"]
    assert done.num_files == 4


def test_a_prefix_has_the_names_and_etags_of_its_objects(store: DirectoryStore) -> None:
    for name, content in {**FILES, ".hidden/a.mp4": b"", "notes.md": b""}.items():
        store.put_bytes(name, content)
    place = PrefixPlace(store)
    before = place.list()
    assert [file.name for file in before.files] == sorted(FILES)
    assert all(file.etag and not file.digest for file in before.files)
    store.put_bytes("b.mp4", b"c")
    after = place.list()
    assert [f.name for f, g in zip(before.files, after.files, strict=True) if f != g] == ["b.mp4"]


def test_a_replaced_or_deleted_object_is_refused_by_name(
    store: DirectoryStore, tmp_path: Path
) -> None:
    store.put_bytes("b.mp4", b"b")
    (file,) = PrefixPlace(store).list().files
    store.put_bytes("b.mp4", b"B")
    with pytest.raises(DataError, match=r"b\.mp4 in .* was replaced or deleted"):
        PrefixPlace(store).fetch(file, tmp_path)
    store.delete("b.mp4")
    with pytest.raises(DataError, match=r"b\.mp4 in .* was replaced or deleted"):
        PrefixPlace(store).fetch(file, tmp_path)


def test_a_store_of_ours_below_a_prefix_gives_no_videos(store: DirectoryStore) -> None:
    for key in ("a.mp4", "runs/mine.mp4", "ours/runs/r1/run.json"):
        store.put_bytes(key, b"")
    store.put_bytes("ours/steps/evaluate_dit/0/sample.mp4", b"")
    store.put_bytes("ours/own.mp4", b"")
    listing = PrefixPlace(store).list()
    assert [file.name for file in listing.files] == ["a.mp4", "ours/own.mp4", "runs/mine.mp4"]
    assert listing.num_left_out == 2


@pytest.mark.parametrize("name", ["../a.mp4", "/etc/a.mp4", "a//b.mp4", "a\0b.mp4"])
def test_names_that_no_place_can_have_are_refused_one_by_one(
    store: DirectoryStore, name: str
) -> None:
    entry = ManifestFile(digest=f"sha256:{'0' * 64}", size_bytes=1)
    store.put_bytes("manifests/x.json", Manifest(files={name: entry, "b.mp4": entry}).to_bytes())
    files = ManifestPlace(store, "manifests/x.json").list().files
    assert [file.name for file in files if not file.refused] == ["b.mp4"]
    SourceListing(files).to_bytes().decode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no manifest"),
        (b"{}", "has no digest of itself"),
        (b"video", "it is no JSON"),
        (Manifest(files={}).to_bytes().replace(b"1", b"2"), "does not match its digest"),
        (Manifest(format_version=9, files={}).to_bytes(), "has format 9; this version reads 1"),
    ],
)
def test_what_is_no_manifest_is_told_by_name(
    store: DirectoryStore, content: bytes | None, told: str
) -> None:
    if content is not None:
        store.put_bytes("manifests/x.json", content)
    with pytest.raises(DataError, match=told) as caught:
        ManifestPlace(store, "manifests/x.json").list()
    assert "x.json" in caught.value.message


def test_an_object_that_is_gone_is_told_with_its_name(
    videos: DirectoryPlace, store: DirectoryStore, tmp_path: Path
) -> None:
    upload(videos, store)
    place = ManifestPlace(store, "manifests/cats.json")
    store.delete_prefix("objects")
    with pytest.raises(DataError, match=r"b\.mp4 of .* has no object"):
        place.fetch(place.list().files[0], tmp_path)


def test_an_object_that_was_damaged_is_told_with_the_way_out(
    videos: DirectoryPlace, store: DirectoryStore, tmp_path: Path
) -> None:
    upload(videos, store)
    place = ManifestPlace(store, "manifests/cats.json")
    file = place.list().files[0]
    store.put_bytes(object_key(file.digest), b"x")
    with pytest.raises(DataError, match=r"b\.mp4 of .*cats\.json.* is not what its name") as caught:
        fetch(place, file, tmp_path)
    assert "delete that object" in (caught.value.hint or "")
    store.delete(object_key(file.digest))
    upload(videos, store)
    assert fetch(place, file, tmp_path).path.read_bytes() == FILES["b.mp4"]


@pytest.mark.parametrize(
    ("given", "name"),
    [("s3://bucket/a b/", "s3://bucket/a b"), ("/a/../b", "/b"), ("file:///a%20b", "/a b")],
)
def test_a_place_is_named_for_good(given: str, name: str) -> None:
    assert place_name(given) == name


def test_a_relative_path_is_named_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_name("videos") == str(tmp_path / "videos")


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(ConfigError, match="empty name"):
        place_name("")


@pytest.mark.parametrize("given", ["s3://", "s3:///", "s3://bucket/a//b", "s3://bucket/../b"])
def test_a_uri_without_bucket_or_plain_prefix_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="the URI of an S3 store"):
        open_place(place_name(given))


@pytest.mark.parametrize("given", ["s3://bucket/x.json", "/x.json"])
def test_a_manifest_where_no_set_can_be_is_refused(given: str) -> None:
    with pytest.raises(DataError, match=r"x\.json is no manifest of videos") as caught:
        open_place(given)
    assert "kino data upload" in (caught.value.hint or "")


def test_a_bucket_that_is_named_like_a_manifest_is_a_bucket() -> None:
    assert open_place("s3://bucket.json").uri == "s3://bucket.json"


def test_a_pipe_that_is_named_like_a_manifest_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(DataError, match=r"x\.json is not a directory of videos"):
        open_place(str(tmp_path / "x.json")).list()


@pytest.mark.parametrize("given", ["http://user:secret@host/v", "gs://bucket/v", "file://host/v"])
def test_other_uris_are_refused_without_their_secrets(given: str) -> None:
    with pytest.raises(ConfigError, match="no videos can be read over") as caught:
        place_name(given)
    assert "secret" not in caught.value.message
    assert "s3://BUCKET/PREFIX" in (caught.value.hint or "")


def test_a_folder_that_is_named_like_a_manifest_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "videos.json").mkdir()
    assert open_place(str(tmp_path / "videos.json")) == DirectoryPlace(tmp_path / "videos.json")


def test_a_list_comes_back_and_a_changed_one_does_not() -> None:
    files = (
        SourceFile("\N{SNOWMAN}.mp4", 3, "sha256:ab"),
        SourceFile("b.csv", 1, "etag:x-1"),
        SourceFile("c.mp4", refused="a broken link"),
    )
    listing = SourceListing(files)
    data = listing.to_bytes()
    assert SourceListing.from_bytes(data, listing.digest, "videos.jsonl") == listing
    assert [json.loads(line)["name"] for line in data.splitlines()] == [f.name for f in files]
    with pytest.raises(CorruptError, match=r"videos\.jsonl does not match"):
        SourceListing.from_bytes(data + b"\n", listing.digest, "videos.jsonl")


def test_a_file_that_is_gone_before_its_digest_is_known_is_told(
    videos: DirectoryPlace, tmp_path: Path
) -> None:
    listing = videos.list()
    (videos.path / "b.mp4").unlink()
    with pytest.raises(DataError, match=r"b\.mp4 can't be read any more"):
        with_versions(videos, listing, tmp_path / "digests.json")


def test_the_digest_of_a_file_is_that_of_its_bytes(videos: DirectoryPlace) -> None:
    digests = {file.name: file.digest for file in listed(videos).files}
    assert digests["b.mp4"] == digests["copy.mp4"] == digest_file(videos.path / "b.mp4")
    assert os.fspath(videos.path) == videos.uri


def test_room_is_looked_for_before_anything_is_fetched(
    store: DirectoryStore, tmp_path: Path
) -> None:
    free = shutil.disk_usage(tmp_path).free
    large = SourceFile("a.mp4", free // 4)
    few, many = SourceListing((large,) * 3), SourceListing((large,) * 9)
    config = PrepareDataConfig.model_validate({"limits": {"max_file_bytes": free}})
    told = check_room(PrefixPlace(store), few, config, tmp_path / "scratch")
    assert told.startswith("3 videos, ")
    assert "for videos fetched at once, about" in told
    local = check_room(DirectoryPlace(tmp_path), many, config, tmp_path / "scratch")
    assert local.startswith("9 videos, ")
    assert "disk needed: about" in local
    with pytest.raises(ConfigError, match=r"are free at .*fetched at once may need"):
        check_room(PrefixPlace(store), many, config, tmp_path / "scratch")
    # What is beyond the limit is not fetched.
    check_room(
        PrefixPlace(store),
        many,
        PrepareDataConfig.model_validate({"limits": {"max_file_bytes": 9}}),
        tmp_path,
    )
