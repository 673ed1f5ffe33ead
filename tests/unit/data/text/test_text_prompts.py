"""Prompt syntax; the reference's own is checked in unit/parity."""

from __future__ import annotations

import pytest

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.conditioning import condition_text, split_conditioning
from kinetoscope.data.text.file_names import clip_name
from kinetoscope.data.text.prompts import (
    PromptScores,
    append_scores,
    condition_prompt,
    merge_prompt,
    prompt_of_loop,
    split_json,
    split_prompt,
)


def test_a_text_holds_from_its_loop_to_the_next_one() -> None:
    prompt = "|0| sunny |2|rainy|5|dark"
    assert split_prompt(prompt) == (["sunny", "rainy", "dark"], [0, 2, 5])
    texts = [prompt_of_loop(prompt, loop) for loop in range(7)]
    assert texts == ["sunny", "sunny", "rainy", "rainy", "rainy", "dark", "dark"]
    assert merge_prompt(*split_prompt(prompt)) == "|0|sunny|2|rainy|5|dark"
    assert prompt_of_loop("a plain |1| prompt", 3) == "a plain |1| prompt"


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("|0|a|1", "text is missing"),
        ("|0|a | b", "text is missing"),
        ("|0|a|x|b", "no number"),
        ("|0|a|2|b|2|c", "do not rise"),
        ("|0|a|-1|b", "do not rise"),
    ],
)
def test_a_malformed_segment_is_refused(prompt: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        split_prompt(prompt)
    with pytest.raises(ConfigError, match=problem):
        prompt_of_loop(prompt, 1)


def test_a_json_suffix_is_taken_off() -> None:
    found = split_json('a cat {"reference_path": "a.png;b.mp4", "mask_strategy": "0"}')
    assert found == ("a cat", "a.png;b.mp4", "0")
    assert split_json("a cat") == ("a cat", None, None)


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("a {red} cat", "no JSON"),
        ('x {"mask": "0"}', "unknown keys"),
        ('x {"mask_strategy": 0}', "must be a string"),
        ('x {"mask_strategy": null}', "must be a string"),
        ("x {} {}", "more than one"),
        ('x {"reference_path": "a.png"} y', "no JSON"),
    ],
)
def test_other_braces_are_refused(prompt: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        split_json(prompt)


def test_scores_have_one_format_and_replace_those_at_the_end() -> None:
    scores = PromptScores(aesthetic=6.5, motion=4, camera_motion="pan left")
    wanted = "a cat. aesthetic score: 6.5. motion score: 4.0. camera motion: pan left."
    assert append_scores("a cat", scores) == wanted
    assert append_scores(wanted, scores) == wanted
    report = "a cat aesthetic score: 5.5, motion score: 10, camera motion: zoom in."
    assert append_scores(report, scores) == wanted
    assert split_conditioning(report) == ("a cat", {"aesthetic": 5.5, "motion": 10.0}, "zoom in")
    assert condition_text(wanted, {}) == "a cat."


def test_every_segment_is_cleaned_and_scored() -> None:
    scores = PromptScores(motion=2)
    assert (
        condition_prompt("|0| A <b>CAT</b>! |1|\u732b", scores)
        == "|0|a cat! motion score: 2.0.|1|\u732b. motion score: 2.0."
    )
    assert condition_prompt("A Cat", scores, clean=False) == "A Cat. motion score: 2.0."


def test_a_file_name_made_of_a_prompt_stays_in_its_folder() -> None:
    assert clip_name(3) == "sample_0003"
    assert clip_name(12, name="x", copy=1) == "x_0012-1"
    assert clip_name(prompt="../../etc/a cat?\n") == "etc-a-cat"
    assert clip_name(prompt="\u4e00\u53ea\u732b") == "\u4e00\u53ea\u732b"
    assert clip_name(prompt="...") == "sample"
    assert len(clip_name(prompt="\u732b" * 999).encode()) <= 120
