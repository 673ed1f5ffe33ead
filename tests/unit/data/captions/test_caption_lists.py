"""The layouts of caption lists that people have, and what is told of each."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest
from tiny.captions import gathered, texts

from kinetoscope.core.errors import DataError
from kinetoscope.data.captions.fallback import caption_for
from kinetoscope.data.captions.found import Captions, caption_lines
from kinetoscope.data.config import CaptionsConfig

COMMAS = "a man in a red coat, walking left, in the rain"
RED = "a red circle"
OPEN_SORA_HEADER = "path,text,num_frames,height,width,aspect_ratio,fps,resolution"

ONE_VIDEO: Mapping[str, tuple[str, str | bytes]] = {
    "absolute": ("meta.csv", "path,text\n{place}/clip.mp4,a red circle\n"),
    "Open-Sora": (
        "meta.csv",
        f"{OPEN_SORA_HEADER}\n/mnt/x/clip.mp4,a red circle,51,720,1280,.56,24.0,921600\n",
    ),
    "another root": ("meta.csv", "path,text\n/data/raw/clip.mp4,a red circle\n"),
    "Windows": ("meta.csv", "path,text\nC:\\raw\\clip.mp4,a red circle\n"),
    "a URI": ("meta.csv", "path,text\ns3://bucket/set/clip.mp4,a red circle\n"),
    "no extension": ("meta.csv", "videoid,name\nclip,a red circle\n"),
    "other case": ("meta.csv", "path,text\nCLIP.MP4,a red circle\n"),
    "semicolons": ("captions.csv", "path;text\nclip.mp4;a red circle\n"),
    "sep=": ("captions.csv", "sep=;\npath;text\nclip.mp4;a red circle\n"),
    "tabs": ("captions.csv", "path\ttext\nclip.mp4\ta red circle\n"),
    "tsv": ("captions.tsv", "path\ttext\nclip.mp4\ta red circle\n"),
    "pipes": ("captions.txt", "clip.mp4|a red circle\n"),
    "header's case": ("captions.csv", "Path,Text\nclip.mp4,a red circle\n"),
    "file,text": ("captions.csv", "file,text\nclip.mp4,a red circle\n"),
    "file_name": ("metadata.csv", "file_name,text\nclip.mp4,a red circle\n"),
    "File Name": ("metadata.csv", "File Name , Caption\nclip.mp4,a red circle\n"),
    "video,caption": ("o.csv", "video,caption,aesthetic score\nclip.mp4,a red circle,5.1\n"),
    "text first": ("o.csv", "prompt,video\na red circle,clip.mp4\n"),
    "no header": ("c.csv", "clip.mp4,a red circle\n"),
    "no header, numbers behind": ("c.csv", "clip.mp4,a red circle,17,24.0\n"),
    "no header, path last": ("c.csv", "a red circle,clip.mp4\n"),
    "unknown header": ("c.csv", "Datei,Beschreibung\nclip.mp4,a red circle\n"),
    "quoted": ("c.csv", '"path","text"\n"clip.mp4","a red circle"\n'),
    "space before the quote": ("c.csv", 'path, text\nclip.mp4, "a red circle"\n'),
    "CRLF": ("c.csv", "path,text\r\nclip.mp4,a red circle\r\n"),
    "BOM": ("c.csv", "\ufeffpath,text\nclip.mp4,a red circle\n"),
    "UTF-16": ("c.csv", "path\ttext\nclip.mp4\ta red circle\n".encode("utf-16")),
    "video_path": ("m.jsonl", '{"video_path": "clip.mp4", "caption": "a red circle"}\n'),
    "first object without a path": (
        "c.jsonl",
        '{"version": 1}\n{"path": "clip.mp4", "text": "a red circle"}\n',
    ),
    "JSON array": ("captions.json", '[{"path": "clip.mp4", "text": "a red circle"}]'),
    "array in JSONL": ("c.jsonl", '[\n{"path": "clip.mp4",\n"text": "a red circle"}]'),
    "array in an object": (
        "c.json",
        '{"v": 1, "data": [{"path": "clip.mp4", "cap": ["a red circle", "x"]}]}',
    ),
    "JSON map": ("c.json", '{"clip.mp4": "a red circle"}'),
    "JSON map of objects": ("c.json", '{"clip": {"caption": "a red circle", "fps": 8}}'),
    "JSON beside": ("clip.json", '{"caption": "a red circle", "duration": 2}'),
    "text beside": ("clip.txt", "a red circle\n"),
    "text behind the suffix": ("clip.mp4.txt", "a red circle\n"),
    "text in capitals": ("CLIP.TXT", "a red circle\n"),
    "list in a cell (Panda-70M)": (
        "p.csv",
        "videoID,url,caption\nclip,https://x.org/watch?v=clip,\"['a red circle', 'a dog']\"\n",
    ),
    "VATEX": ("v.json", '[{"videoID": "clip", "enCap": ["a red circle"]}]'),
    "MSR-VTT": (
        "m.json",
        '{"videos": [{"video_id": "clip"}],'
        ' "sentences": [{"video_id": "clip", "caption": "a red circle"}]}',
    ),
    "WebVid": (
        "w.csv",
        "videoid,contentUrl,duration,name\nclip,https://x/y.mp4,PT7S,a red circle\n",
    ),
    "pairs": ("c.json", '[["clip.mp4", "a red circle"], ["gone.mp4", "x"]]'),
    "an index column": ("c.csv", ",path,text\n0,clip.mp4,a red circle\n"),
    "list in a folder": ("lists/a.csv", "path,text\n../clip.mp4,a red circle\n"),
}


@pytest.mark.parametrize("layout", ONE_VIDEO)
def test_layouts_that_people_use_are_understood(tmp_path: Path, layout: str) -> None:
    name, content = ONE_VIDEO[layout]
    if isinstance(content, str):
        content = content.replace("{place}", str(tmp_path))
    captions = gathered(tmp_path, {"clip.mp4": "", "other.mp4": "", name: content})
    assert texts(captions) == {"clip.mp4": RED}
    assert captions.by_video["clip.mp4"].origin.startswith(name)


def test_commas_that_are_not_quoted_belong_to_the_caption(tmp_path: Path) -> None:
    rows = f"path,text\na.mp4,{COMMAS}\nb.mp4,two dogs, one cat\nc.mp4,rain\n"
    behind = f"path,text,fps\nd.mp4,{COMMAS},24\n"
    before = f"text,path\n{COMMAS},e.mp4\n"
    bare = f"f.mp4,{COMMAS}\n"
    videos = {f"{letter}.mp4": "" for letter in "abcdef"}
    files = {"1.csv": rows, "2.csv": behind, "3.csv": before, "4.csv": bare}
    found = texts(gathered(tmp_path, videos | files))
    assert found == {
        "a.mp4": COMMAS,
        "b.mp4": "two dogs, one cat",
        "c.mp4": "rain",
        "d.mp4": COMMAS,
        "e.mp4": COMMAS,
        "f.mp4": COMMAS,
    }


def test_two_files_hold_videos_and_prompts_line_by_line(tmp_path: Path) -> None:
    pair = {"videos.txt": "v/a.mp4\nv/b.mp4\n", "prompts.txt": "one\ntwo\n"}
    captions = gathered(tmp_path, {"v/a.mp4": "", "v/b.mp4": "", **pair})
    assert texts(captions) == {"v/a.mp4": "one", "v/b.mp4": "two"}
    captions = gathered(tmp_path, {"prompts.txt": "one\ntwo\nthree\n"})
    assert not captions.by_video
    assert "videos.txt has 2 lines and prompts.txt has 3" in captions.lists[0].why_not


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_accents_match_in_either_form(tmp_path: Path, on_disk: str) -> None:
    names = {form: unicodedata.normalize(form, "caf\u00e9.mp4") for form in ("NFC", "NFD")}
    listed = names["NFD" if on_disk == "NFC" else "NFC"]
    captions = gathered(tmp_path, {names[on_disk]: "", "c.csv": f"path,text\n{listed},{RED}\n"})
    assert texts(captions) == {names[on_disk]: RED}


def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path) -> None:
    rows = 'path,text\na.mp4,"one\nb.mp4,two\nc.mp4,"three, and ""more"""\nd.mp4,5" wide\n'
    videos = {f"{letter}.mp4": "" for letter in "abcd"}
    captions = gathered(tmp_path, videos | {"c.csv": rows})
    assert texts(captions) == {
        "b.mp4": "two",
        "c.mp4": 'three, and "more"',
        "d.mp4": '5" wide',
    }
    (report,) = captions.lists
    (reason,) = report.passed_over
    assert "quote" in reason
    assert report.examples[reason] == ['line 2: a.mp4,"one']


def test_a_quoted_caption_may_have_lines(tmp_path: Path) -> None:
    rows = 'path,text\na.mp4,"one\ntwo, ""three"""\nb.mp4,four\n'
    captions = gathered(tmp_path, {"a.mp4": "", "b.mp4": "", "c.csv": rows})
    assert texts(captions) == {"a.mp4": 'one two, "three"', "b.mp4": "four"}
    assert captions.by_video["b.mp4"].origin == "c.csv:4"


def test_rows_that_match_nothing_or_twice_are_counted_and_shown(tmp_path: Path) -> None:
    rows = "path,text\na.mp4,one\ngone.mp4,x\na.mp4,one\na.mp4,two\nb.mp4,\n"
    (report,) = gathered(tmp_path, {"a.mp4": "", "b.mp4": "", "c.csv": rows}).lists
    assert (report.num_rows, report.num_matched) == (5, 1)
    assert report.passed_over == {
        "another caption for a video that has one": 1,
        "no caption": 1,
        "no such video, or several": 1,
        "the same again": 1,
    }
    assert report.examples["no such video, or several"] == ["line 3: gone.mp4"]


def test_the_closest_path_wins_and_what_is_ambiguous_matches_nothing(tmp_path: Path) -> None:
    place = tmp_path / "cats"
    rows = "path,text\n/data/dogs/1.mp4,a dog\n/data/cats/1.mp4,a cat\n"
    assert texts(gathered(place, {"1.mp4": "", "c.csv": rows})) == {"1.mp4": "a cat"}
    rows = "path,text\n1.mp4,which?\nb/1.mp4,this one\nc/1.mp4,a stranger\n"
    place = tmp_path / "two"
    assert texts(gathered(place, {"a/1.mp4": "", "b/1.mp4": "", "c.csv": rows})) == {
        "b/1.mp4": "this one"
    }


def test_file_names_match_alone_where_they_are_the_only_such_and_that_is_told(
    tmp_path: Path,
) -> None:
    rows = "path,text\n/old/a.mp4,a\n/old/b.mp4,b\n/old/x/c.mp4,c\n/old/y/c.mp4,c?\n"
    videos = {f"videos/{name}.mp4": "" for name in "ac"}
    captions = gathered(tmp_path, {**videos, "v/b.mp4": "", "w/b.mp4": "", "c.csv": rows})
    assert texts(captions) == {"videos/a.mp4": "a"}
    (report,) = captions.lists
    assert (report.num_matched, report.num_by_name) == (1, 1)
    assert "1 by the file name alone" in caption_lines(captions.to_json())[2]


def test_a_file_beside_the_video_wins_then_the_first_list(tmp_path: Path) -> None:
    lists = {"1.csv": "path,text\na.mp4,one\nb.mp4,one\n", "2.csv": "path,text\nb.mp4,two\n"}
    captions = gathered(tmp_path, {"a.mp4": "", "b.mp4": "", "a.txt": "mine", **lists})
    assert texts(captions) == {"a.mp4": "mine", "b.mp4": "one"}
    assert captions.lists[1].passed_over == {"its video has a caption from another file": 1}


FOREIGN: dict[str, str | bytes] = {
    "stats.csv": "name,size\nx,1\n",
    "log.jsonl": '{"step": 1}\n',
    "readme.txt": "hello, world\n",
    "latin.txt": b"caf\xe9, bar\n",
    "package.json": '{"name": "x", "version": 1}',
    "deep.json": "[" * 100_000,
    "empty.csv": "",
    "one.csv": "path\nx\n",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_passed_over_and_named(tmp_path: Path, name: str) -> None:
    rows = f"path,text\na.mp4,{RED}\n"
    captions = gathered(tmp_path, {"a.mp4": "", "c.csv": rows, name: FOREIGN[name]})
    assert texts(captions) == {"a.mp4": RED}
    report = next(report for report in captions.lists if report.file == name)
    assert report.why_not or not report.num_matched


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("path,text\nx.mp4,one\ny.mp4,two\n", r"c\.csv: 0 of 2 rows matched.*line 2: x\.mp4"),
        (b"path,text\na.mp4,caf\xe9\n", r"c\.csv: passed over \(it is not UTF-8 \(line 2\)"),
        ("path,words\na.mp4,one\nb.mp4,two\n", r"c\.csv: passed over.*'path', 'words'"),
        ("path,text\n" + 'a.mp4,"x\n' * 30, r"c\.csv: passed over \(more than 20 rows"),
    ],
)
def test_lists_that_leave_most_videos_without_a_caption_stop_the_run(
    tmp_path: Path, content: str | bytes, told: str
) -> None:
    captions = gathered(tmp_path, {"a.mp4": "", "b.mp4": "", "c.csv": content})
    with pytest.raises(DataError, match=told) as error:
        captions.require(0.5, "videos")
    assert "0 of 2 videos" in error.value.message
    assert error.value.hint is not None
    assert "min_matched=0" in error.value.hint
    captions.require(0.0, "videos")


def test_a_folder_without_lists_needs_no_caption(tmp_path: Path) -> None:
    captions = gathered(tmp_path, {"a.mp4": "", "b.mp4": "", "stats.csv": "name,size\nx,1\n"})
    captions.require(0.5, "videos")
    assert caption_lines(captions.to_json())[:2] == [
        "captions: 0 of 2 videos",
        "  2 have none (prepare_data.captions.missing)",
    ]


def test_a_file_that_may_not_be_opened_is_told_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").symlink_to("nowhere")
    captions = gathered(tmp_path, {"a.mp4": ""})
    captions.require(0.5, "videos")
    assert captions.lists[0].why_not.startswith("a broken link")
    (tmp_path / "captions.csv").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"captions\.csv: passed over \(a broken link"):
        gathered(tmp_path, {}).require(0.5, "videos")


KINDS = {
    "Chinese": "\u4e00\u53ea\u7ea2\u8272\u7684\u72d7, \u5954\u8dd1",
    "Arabic": "\u0643\u0644\u0628 \u0623\u062d\u0645\u0631 \u064a\u0631\u0643\u0636",
    "Hindi": "\u0932\u093e\u0932 \u0915\u0941\u0924\u094d\u0924\u093e",
    "Thai": "\u0e2b\u0e21\u0e32\u0e2a\u0e35\u0e41\u0e14\u0e07\u0e27\u0e34\u0e48\u0e07",
    "emoji": "\U0001f469\u200d\U0001f680 on \U0001f315",
    "long": "word " * 10_000 + "end",
    "HTML": "<script>alert('x')</script> & <b>bold</b>",
    "SQL": "'; DROP TABLE clips; --",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["csv", "tsv", "jsonl", "json", "txt", "map", "pair"])
def test_captions_of_every_kind_come_through_whole(tmp_path: Path, kind: str, layout: str) -> None:
    text = KINDS[kind]
    files: dict[str, dict[str, str]] = {
        "csv": {"c.csv": f'path,text\r\na.mp4,"{text}"\r\n'},
        "tsv": {"c.tsv": f"path\ttext\na.mp4\t{text}\n"},
        "jsonl": {"c.jsonl": json.dumps({"path": "a.mp4", "text": text}) + "\r\n"},
        "json": {"c.json": "\ufeff" + json.dumps([{"path": "a.mp4", "text": text}])},
        "txt": {"a.txt": f"\ufeff{text}\r\n"},
        "map": {"c.json": json.dumps({"a.mp4": text}, ensure_ascii=False)},
        "pair": {"videos.txt": "a.mp4\r\n", "captions.txt": f"{text}\r\n"},
    }
    captions = gathered(tmp_path, {"a.mp4": "", **files[layout]})
    assert texts(captions) == {"a.mp4": text}


def test_half_a_character_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = '{"path": "a.mp4", "text": "x"}\n{"path": "b.mp4", "text": "\\ud83d"}\n'
    (report,) = gathered(tmp_path, {"a.mp4": "", "b.mp4": "", "c.jsonl": rows}).lists
    assert report.examples["half a character (a lone surrogate)"] == ["line 2: b.mp4"]


@pytest.mark.parametrize(
    ("missing", "expected"), [("filename", "my red ball"), ("empty", ""), ("drop", None)]
)
def test_a_missing_caption_follows_the_policy(
    tmp_path: Path, missing: str, expected: str | None
) -> None:
    config = CaptionsConfig.model_validate({"missing": missing})
    found = caption_for("sub/my_red-ball.mp4", Captions(), config)
    assert (found.text if found else None) == expected
    captions = gathered(tmp_path, {"my_red-ball.mp4": "", "my_red-ball.txt": "a ball"})
    given = caption_for("my_red-ball.mp4", captions, config)
    assert given is not None
    assert given.text == "a ball"


@pytest.mark.parametrize("kind", ["Hindi", "Thai", "Arabic"])
def test_words_of_file_names_keep_their_vowels(kind: str) -> None:
    name = KINDS[kind].replace(" ", "_") + "_1.mp4"
    found = caption_for(name, Captions(), CaptionsConfig())
    assert found is not None
    assert found.text == KINDS[kind] + " 1"
