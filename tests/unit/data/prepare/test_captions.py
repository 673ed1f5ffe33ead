from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetoscope.core.errors import DataError
from kinetoscope.data.conditioning import condition_text, split_conditioning
from kinetoscope.data.config import CaptionsConfig
from kinetoscope.data.prepare.captions import caption_for, read_captions
from kinetoscope.data.sources.directory import DirectoryPlace


def captions_of(directory: Path, files: dict[str, str]) -> dict[str, str]:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    listing = DirectoryPlace(directory).list()
    contents = {file.name: (directory / file.name).read_bytes() for file in listing.sidecars}
    return read_captions(listing, contents)


def test_each_kind_of_sidecar_is_read(tmp_path: Path) -> None:
    found = captions_of(
        tmp_path,
        {
            "a.mp4": "",
            "sub/b.mp4": "",
            "sub/c.mp4": "",
            "d.mp4": "",
            "captions.csv": "\ufeffpath,text\na.mp4,from a csv\nsub/c.mp4,relative to the top\n",
            "sub/list.jsonl": json.dumps({"path": "b.mp4", "caption": "beside\nthe list"}) + "\n\n",
            "d.txt": "  from a text file\n",
        },
    )
    assert found == {
        "a.mp4": "from a csv",
        "sub/b.mp4": "beside the list",
        "sub/c.mp4": "relative to the top",
        "d.mp4": "from a text file",
    }


def test_the_text_file_wins_then_the_first_list(tmp_path: Path) -> None:
    lists = {"1.csv": "path,text\na.mp4,one\nb.mp4,one\n", "2.csv": "path,text\nb.mp4,two\n"}
    found = captions_of(tmp_path, {"a.mp4": "", "b.mp4": "", "a.txt": "mine", **lists})
    assert found == {"a.mp4": "mine", "b.mp4": "one"}


def test_files_that_are_no_caption_lists_are_passed_over(tmp_path: Path) -> None:
    others = {"stats.csv": "name,size\nx,1\n", "log.jsonl": '{"step": 1}\n', "readme.txt": "hello"}
    assert captions_of(tmp_path, {"a.mp4": "", **others}) == {}


def test_paths_that_leave_the_directory_name_no_video(tmp_path: Path) -> None:
    rows = "path,text\n../a.mp4,no\n/etc/passwd,no\n"
    assert captions_of(tmp_path, {"a.mp4": "", "captions.csv": rows}) == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", "path,words\na.mp4,x\n", r"c\.csv.*'text', 'caption'"),
        ("c.jsonl", '{"path": "a.mp4", "text": "x"}\n{oops\n', r"c\.jsonl, line 2"),
        ("c.jsonl", '{"path": "a.mp4", "text": 3}\n', r"c\.jsonl, line 1.*strings"),
    ],
)
def test_a_broken_list_names_file_and_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        captions_of(tmp_path, {"a.mp4": "", name: content})


def test_a_list_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(b"path,text\na.mp4,caf\xe9\n")
    with pytest.raises(DataError, match="not UTF-8"):
        captions_of(tmp_path, {"a.mp4": ""})


@pytest.mark.parametrize(
    ("missing", "expected"), [("filename", "my red ball"), ("empty", ""), ("drop", None)]
)
def test_a_missing_caption_follows_the_policy(missing: str, expected: str | None) -> None:
    config = CaptionsConfig.model_validate({"missing": missing})
    assert caption_for("sub/my_red-ball.mp4", {}, config) == expected
    assert caption_for("sub/my_red-ball.mp4", {"sub/my_red-ball.mp4": "a ball"}, config) == "a ball"


def test_scores_follow_the_caption_in_one_format() -> None:
    text = condition_text("a red circle moving left", {"motion": 3.24, "quality": 0.75})
    assert text == "a red circle moving left. motion score: 3.2. quality score: 0.8."
    assert condition_text("Look!", {"motion": -0.01}) == "Look! motion score: 0.0."
    assert condition_text("", {"quality": 1}) == "quality score: 1.0."


@given(
    caption=st.text(st.sampled_from("ab .!?\n:3motion score"), max_size=30),
    motion=st.floats(0, 1e4),
    quality=st.floats(0, 1),
)
def test_conditioning_twice_is_conditioning_once(
    caption: str, motion: float, quality: float
) -> None:
    scores = {"motion": motion, "quality": quality}
    once = condition_text(caption, scores)
    assert condition_text(once, scores) == once
    assert split_conditioning(once)[1] == {name: round(value, 1) for name, value in scores.items()}


def test_new_scores_replace_the_old_ones() -> None:
    old = condition_text("a dog", {"motion": 1.0, "quality": 0.5})
    assert condition_text(old, {"motion": 9.0}) == "a dog. motion score: 9.0."
    assert split_conditioning("the final score: 3.") == ("the final score: 3.", {}, None)


def test_an_unknown_score_is_refused() -> None:
    with pytest.raises(ValueError, match=r"beauty.*motion"):
        condition_text("a dog", {"beauty": 1.0})
