"""Caption cleaning; the reference's own is checked in unit/parity."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetoscope.data.captions.fallback import caption_for
from kinetoscope.data.captions.found import Captions
from kinetoscope.data.captions.rows import Caption
from kinetoscope.data.config import CaptionsConfig
from kinetoscope.data.text.cleaning import clean_caption

GOLDEN = Path(__file__).parents[3] / "golden/reference/text_cleaning.json"


@pytest.mark.parametrize(
    "caption",
    [
        "\u4e00\u53ea\u732b\u5728\u7761\u89c9",
        "\u65e5\u672c\u306e\u685c",
        "\u043a\u043e\u0448\u043a\u0430 \u0441\u043f\u0438\u0442",
        "\u0e41\u0e21\u0e27\u0e01\u0e33\u0e25\u0e31\u0e07\u0e19\u0e2d\u0e19",
        "\ud55c\uad6d\uc5b4 \uc601\uc0c1",
        "\u0642\u0637\u0629 \u0646\u0627\u0626\u0645\u0629",
    ],
)
def test_text_in_every_script_survives(caption: str) -> None:
    assert clean_caption(f" {caption.upper()} &amp; a <b>cat</b>") == f"{caption} a cat"


@pytest.mark.parametrize(
    "removed", ["cat.mp4", "www.foo.com", "https://example.com/cats", "click on"]
)
def test_what_is_removed_takes_no_chinese_sentence_with_it(removed: str) -> None:
    before, after = "\u770b\u732b", "\u5728\u7761\u89c9"
    assert clean_caption(f"{before} {removed}{after}").endswith(after)
    assert clean_caption(f"{before}{removed} {after}").startswith(before)


def test_a_nickname_without_a_space_after_it_leaves_the_sentence() -> None:
    assert clean_caption("@\u5c0f\u660e\u7684\u732b") == "\u5c0f\u660e\u7684\u732b"
    assert clean_caption("@john_doe filmed this") == "filmed this"


def test_the_default_equals_the_reference_where_there_are_no_chinese_characters() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    pairs = zip(golden["in"]["captions"], golden["out"]["clean_twice"], strict=True)
    western = [(raw, clean) for raw, clean in pairs if not any(c > "\u2e7f" for c in raw)]
    assert len(western) > 40
    for raw, wanted in western:
        assert clean_caption(raw) == wanted


@given(st.text(max_size=60))
def test_any_text_is_cleaned_without_an_error(text: str) -> None:
    cleaned = clean_caption(text)
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned


@pytest.mark.parametrize("text", ["<![if a cat", "&amp; \ud800", "<b><a" * 999, "&#0; &#9999999;"])
def test_broken_markup_and_half_characters_are_no_error(text: str) -> None:
    assert isinstance(clean_caption(text), str)


def test_a_hostile_caption_takes_no_more_than_seconds() -> None:
    start = time.monotonic()
    for piece in ("a.", "a-b", "<b>", "1", " .", "'", "@x", "download "):
        clean_caption(piece * 100_000)
    assert time.monotonic() - start < 20


def test_captions_of_the_demo_are_not_changed_by_cleaning() -> None:
    for caption in ("a red circle moving left", "a blue square standing still"):
        assert clean_caption(caption) == caption


def test_captions_are_cleaned_on_request_and_empty_ones_are_missing() -> None:
    given = {"a_cat.mp4": "A <b>Cat</b> @joe", "dog.mp4": "https://www.dogs.com"}
    captions = Captions({name: Caption(text, "c.csv:2") for name, text in given.items()})
    raw, clean = CaptionsConfig(missing="drop"), CaptionsConfig(missing="drop", clean=True)
    assert caption_for("a_cat.mp4", captions, raw) == Caption("A <b>Cat</b> @joe", "c.csv:2")
    assert caption_for("a_cat.mp4", captions, clean) == Caption("a cat", "c.csv:2")
    assert caption_for("dog.mp4", captions, clean) is None
    named = CaptionsConfig(missing="filename", clean=True)
    assert caption_for("My_Dog.mp4", Captions(), named) == Caption("my dog", "file name")
