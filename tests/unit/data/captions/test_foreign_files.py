"""Files beside videos that are no captions of them, and ones that are meant to cost much."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tiny.captions import gathered, texts

from kinetoscope.core.errors import DataError
from kinetoscope.data.captions.found import caption_lines
from kinetoscope.data.captions.video_names import VideoNames


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("package.json", '{"name": "x", "scripts": {"a": '),
        ("tsconfig.json", '{\n  // where "it" lies\n  "path": "src"\n}'),
        ("metadata.json", '{"description": "a set", "videos": 3'),
        ("products.csv", "name,title,price\nhat,\x80uro caf\xe9,3\n".encode("latin-1")),
        ("goods.csv", "name,description\nhat,red\ncap,blue\n"),
        ("sums.csv", "path,sha256\nx/y.bin,ab\n"),
        ("years.csv", b"year,caf\xe9\n1,2\n2,3\n3,4\n"),
        ("notes.txt", "\u00fcber 2 Katzen\n".encode("latin-1")),
    ],
)
def test_what_is_plainly_not_of_these_videos_stops_nothing(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    files: dict[str, str | bytes] = {"1.mp4": "", "2.mp4": "", "red_cat.mp4": "", name: content}
    captions = gathered(tmp_path, files)
    captions.require(1.0, "videos")
    (report,) = captions.lists
    assert report.file == name
    assert report.why_not or not report.num_matched


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"id;texte\nred_cat;un chat\nblue_dog;caf\xe9\n", r"not UTF-8 \(line 3\): save"),
        ("captions.csv", b"x,caf\xe9\n", r"captions\.csv: passed over \(it is not UTF-8 \(line 1"),
        ("all.json", '[{"file": "sub/red_cat.mp4", "caption": "a c', "it is no JSON"),
        ("red_cat.txt", b"un \xe9l\xe9phant\n", r"red_cat\.txt: passed over"),
        ("list.csv", "path,text\nelsewhere/x.mp4,a cat\n", "0 of 1 rows matched"),
    ],
)
def test_damaged_captions_of_these_videos_are_told_with_what_to_do(
    tmp_path: Path, name: str, content: str | bytes, told: str
) -> None:
    captions = gathered(tmp_path, {"red_cat.mp4": "", "blue_dog.mp4": "", name: content})
    with pytest.raises(DataError, match=told):
        captions.require(0.5, "videos")


def test_a_table_of_one_long_line_or_of_endless_columns_costs_little(tmp_path: Path) -> None:
    wide = "ab," * 300_000
    files = {
        "a.mp4": "",
        "line.csv": "ab," * 2_000_000,
        "row.csv": f"path,text\n{wide}\na.mp4,a cat\n",
        "header.csv": f"path,text,{'x,' * 200_000}\n",
        "own.txt": "x",
        "b.mp4": "",
        "b.txt": "w" * 100_001,
    }
    began = time.process_time()
    captions = gathered(tmp_path, files)
    assert time.process_time() - began < 2
    assert texts(captions) == {"a.mp4": "a cat"}
    reports = {report.file: report for report in captions.lists}
    assert "its first line has 6000000 characters" in reports["line.csv"].why_not
    (reason,) = reports["row.csv"].passed_over
    assert "1000000 characters or 10000 columns" in reason
    assert reports["b.txt"].why_not == "longer than 100000 characters"
    assert reports["header.csv"].why_not


def test_many_videos_of_one_name_are_found_by_their_folders(tmp_path: Path) -> None:
    names = [f"id{i}/video.mp4" for i in range(20_000)]
    videos = VideoNames([*names, "other/Video.mp4"], "/data/set")
    began = time.process_time()
    for number in range(0, 20_000, 2):
        match = videos.find(f"/old/place/ID{number}/video.mp4")
        assert match is not None
        assert match.name == names[number]
        assert videos.find("video.mp4") is None
    assert time.process_time() - began < 10
    match = videos.find("x/other/Video.mp4")
    assert match is not None
    assert match.name == "other/Video.mp4"


def test_foreign_files_of_one_reason_are_told_in_one_line(tmp_path: Path) -> None:
    files = {"a.mp4": "", "captions.csv": "path,text\na.mp4,a cat\n"}
    captions = gathered(tmp_path, files | {f"label-{i:04}.txt": "0 0.5 0.5" for i in range(300)})
    assert caption_lines(captions.to_json()) == [
        "captions: 1 of 1 videos",
        "  captions.csv: 1 of 1 rows matched a video (table, ',', columns path and text)",
        "  300 files passed over (no column is called as paths are, and no field names a video), "
        "e.g. label-0000.txt, label-0001.txt, label-0002.txt",
    ]
