"""Caption cleaning, as the T5-based text-to-image models since DeepFloyd IF do it.

Web captions carry links, markup, file names, article numbers and advertising. The rules here remove
them, unify dashes and quotes and collapse spaces; what is left is lower case. They are those of
Open-Sora 1.2 but for one thing: the reference removes Chinese characters, which leaves nothing of a
Chinese caption, and its rules that remove a whole word (link, file name, nickname) take a whole
sentence of a script that puts no spaces between words.
"""

from __future__ import annotations

import html
import re
import warnings
from functools import cache
from typing import NamedTuple
from urllib.parse import unquote_plus

import ftfy
from bs4 import BeautifulSoup
from bs4.exceptions import ParserRejectedMarkup

_Rules = tuple[tuple[re.Pattern[str], str], ...]

# Thai, Lao, Tibetan, Myanmar, Khmer, kana, ideographs and their punctuation and wide forms.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\uff00-\uffef"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_DASHES = (
    "\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0"
    "\ufe31\ufe32\ufe58\ufe63\uff0d"
)
_SYMBOLS = "#\u00ae\u2022\u00a9\u2122&@\u00b7\u00ba\u00bd\u00be\u00bf\u00a1\u00a7~()\\[\\]{}|\\\\/*"
_DOMAIN = r"[a-z0-9.\-]+\.(?:com|co|ru|net|org|edu|gov|it)"
_EXTENSIONS = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"
_SEPARATORS = re.compile("[-_]")
_MOST_SEPARATORS = 3
# Far beyond what a text encoder reads; some rules take time with the square of the length.
_MOST_CHARACTERS = 10_000
# Rules uncover matches of earlier ones.
_NUM_PASSES = 2
_MARKUP = re.compile("[<&]")
_TAG = re.compile(r"<[^>]*>?")


class Alphabet(NamedTuple):
    """What the rules that remove whole words count as a word."""

    word: str
    """Class of a word's characters."""
    token: str
    """Class of the characters between spaces."""
    edge: str
    """Boundary of a word."""


_WORD = rf"[^\W{_UNSPACED}]"
_SPACED = Alphabet(
    word=_WORD,
    token=rf"[^\s{_UNSPACED}]",
    edge=f"(?:(?<={_WORD})(?!{_WORD})|(?<!{_WORD})(?={_WORD}))",
)
"""Scripts with spaces between words: where another one begins, a word ends."""


def clean_caption(text: str) -> str:
    """Return a caption cleaned and in lower case; it may become empty.

    Training and inference must clean alike.

    Args:
        text: the raw caption or prompt; what is beyond 10,000 characters is cut off.
    """
    text = text[:_MOST_CHARACTERS]
    for _ in range(_NUM_PASSES):
        text = _without_tags(without_links(text, _SPACED))
        text = without_noise(without_nicknames(text, _SPACED), _SPACED)
    return text


def without_links(text: str, alphabet: Alphabet) -> str:
    """Return a raw caption decoded, in lower case and without links: where cleaning begins."""
    text = unquote_plus(text).strip().lower().replace("<person>", "person")
    return _substitute(text, _link_rules(alphabet))


def text_of_html(text: str) -> str:
    """Return the text between the tags; raises what the HTML parser does."""
    with warnings.catch_warnings():
        # It takes captions that resemble a path, a link or XML for mistakes.
        warnings.simplefilter("ignore", UserWarning)
        return BeautifulSoup(text, features="html.parser").text


def without_nicknames(text: str, alphabet: Alphabet) -> str:
    """Return a caption without words that begin with ``@``."""
    return re.sub(f"@{alphabet.word}+{alphabet.edge}", "", text)


def without_noise(text: str, alphabet: Alphabet) -> str:
    """Return a caption without file names, codes and advertising: where cleaning ends."""
    text = _substitute(text, _noise_rules(alphabet))
    if len(_SEPARATORS.findall(text)) > _MOST_SEPARATORS:
        text = _SEPARATORS.sub(" ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _substitute(text, _wording_rules(alphabet)).strip()


def _without_tags(text: str) -> str:
    if not _MARKUP.search(text):
        return text
    try:
        return text_of_html(text)
    except (ParserRejectedMarkup, UnicodeEncodeError):
        return _TAG.sub("", text)


def _substitute(text: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


@cache
def _link_rules(alphabet: Alphabet) -> _Rules:
    word, _, edge = alphabet
    address = rf"{_DOMAIN}(?:{word}|[/-])*{edge}/?(?!@)"
    # The scheme alone is cut from an address with other endings.
    return tuple(
        (re.compile(rf"{edge}(?:{scheme}:(?:/{{1,3}}|[a-z0-9%])|{address})"), "")
        for scheme in ("https?", "www")
    )


@cache
def _noise_rules(alphabet: Alphabet) -> _Rules:
    """Punctuation, numbers and files; their order matters."""
    token = alphabet.token
    return _compiled(
        (f"[{_DASHES}]+", "-"),
        ("[`\u00b4\u00ab\u00bb\u201c\u201d\u00a8]", '"'),
        ("[\u2018\u2019]", "'"),
        ("&quot;?", ""),
        ("&amp", ""),
        (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
        (r"\d:\d\d\s+$", ""),
        (r"\\n", " "),
        (r"#\d{1,3}\b", ""),
        (r"#\d{5,}\b", ""),
        (r"\b\d{6,}\b", ""),
        # Starting at the token's start changes no match and keeps long tokens cheap.
        (rf"(?<!{token}){token}+\.(?:{_EXTENSIONS})", ""),
        (r"[\"']{2,}", '"'),
        (r"\.{2,}", " "),
        (f"[{_SYMBOLS}]+", " "),
        (r"\s+\.\s+", " "),
    )


@cache
def _wording_rules(alphabet: Alphabet) -> _Rules:
    """Codes, advertising, sizes, then spaces and the caption's ends; their order matters."""
    return _compiled(
        (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
        (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
        (r"\b\d+[a-zA-Z]+\d+\b", ""),
        (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
        (r"(?:free\s)?download(?:\sfree)?", ""),
        (rf"\bclick\b\s(?:for|on)\s{alphabet.word}+", ""),
        (rf"\b(?:{_EXTENSIONS})(?:\simages?)?", ""),
        (r"\bpage\s+\d+\b", ""),
        (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
        ("\\b\\d+\\.?\\d*[x\u0445\u00d7]\\d+\\.?\\d*\\b", ""),
        (r"\b\s+:\s+", ": "),
        (r"(\D[,./])\b", r"\1 "),
        (r"\s+", " "),
        (r"^[\"']([\w\W]+)[\"']$", r"\1"),
        (r"^['_,\-:;]", ""),
        (r"['_,\-:+]$", ""),
        (rf"^\.{alphabet.token}+$", ""),
    )


def _compiled(*rules: tuple[str, str]) -> _Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rules)
