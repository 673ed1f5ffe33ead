from __future__ import annotations

import os

import pytest

from kinetoscope.core.text import printable, printable_lines

SHOWN = {
    "escape": ("a\x1b[31mb", r"a\x1b[31mb"),
    "bell, backspace, delete": ("a\a\b\x7fb", r"a\x07\x08\x7fb"),
    "line breaks": (
        "a\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h",
        r"a\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h",
    ),
    "tab and null": ("a\tb\0c", r"a\tb\x00c"),
    "C1 control": ("a\x9b31mb", r"a\x9b31mb"),
    "bidi": ("a\u202egpj.exe\u2066\u200f", r"a\u202egpj.exe\u2066\u200f"),
    "invisible": ("a\u200bb\ufeffc\u00add\u2060e\u3164f", r"a\u200bb\ufeffc\xadd\u2060e\u3164f"),
    "joiner in ASCII": ("pay\u200dpal", r"pay\u200dpal"),
    "tag": ("a\U000e0041", r"a\U000e0041"),
    "no UTF-8": (os.fsdecode(b"a\xff"), r"a\udcff"),
}
KEPT = [
    "a.mp4",
    r"C:\new\x1b",
    "été, 猫　犬, שלום, a b",
    "\u0645\u06cc\u200c\u0631\u0648\u0645",
    "\N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL}",
]


@pytest.mark.parametrize(("text", "shown"), SHOWN.values(), ids=list(SHOWN))
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize("text", KEPT)
def test_text_of_any_script_stays(text: str) -> None:
    assert printable(text) == text


def test_a_log_keeps_its_lines_and_tabs_alone() -> None:
    assert printable_lines("a\tb\r\nc\x1b[2Jd\re\n") == "a\tb\nc\\x1b[2Jd\\re\n"
