"""Caption cleaning, as the T5-based text-to-image models since DeepFloyd IF do it.

Web captions carry links, markup, file names, article numbers and advertising. The rules here remove
them, unify dashes and quotes and collapse spaces; what is left is lower case. They are those of
Open-Sora 1.2 but for one thing: the reference removes Chinese characters, which leaves nothing of a
Chinese caption, and its rules that remove a whole word (link, file name, nickname) take a whole
sentence of a script that puts no spaces between words. ``remove_cjk=True`` gives its behaviour.
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

from kinetoscope.core.errors import DataError

_Rules = tuple[tuple[re.Pattern[str], str], ...]

_CJK = re.compile("[\u31c0-\u4dff\u4e00-\u9fff]+")
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
_MARKUP = re.compile("[<&]")
_TAG = re.compile(r"<[^>]*>?")


class _Alphabet(NamedTuple):
    """What the rules that remove whole words count as a word."""

    word: str
    """Class of a word's characters."""
    token: str
    """Class of the characters between spaces."""
    edge: str
    """Boundary of a word."""


def clean_caption(text: str, *, remove_cjk: bool = False, passes: int = 2) -> str:
    """Return a caption cleaned and in lower case; it may become empty.

    Training and inference must clean alike, so use the same arguments for both.

    Args:
        text: the raw caption or prompt; what is beyond 10,000 characters is cut off.
        remove_cjk: compat with Open-Sora 1.2: remove Chinese characters, let links, file names
            and nicknames reach to the next space whatever the script, cut no long text.
        passes: how often the rules are applied. The reference does it twice, since rules uncover
            matches of earlier ones.

    Raises:
        DataError: with ``remove_cjk``, markup or half characters (lone surrogates) that the HTML
            parser refuses, as in the reference; otherwise a plain pattern cuts out the tags.
    """
    if not remove_cjk:
        text = text[:_MOST_CHARACTERS]
    for _ in range(passes):
        text = _clean_once(text, remove_cjk=remove_cjk)
    return text


def lower_caption(text: str) -> str:
    """Return a caption in lower case without outer spaces: the reference without cleaning."""
    return text.lower().strip()


def _clean_once(text: str, *, remove_cjk: bool) -> str:
    alphabet = _alphabet(unspaced_scripts=not remove_cjk)
    text = unquote_plus(text).strip().lower().replace("<person>", "person")
    text = _substitute(text, _link_rules(alphabet))
    text = _without_tags(text, strict=remove_cjk)
    text = re.sub(f"@{alphabet.word}+{alphabet.edge}", "", text)
    if remove_cjk:
        text = _CJK.sub("", text)
    text = _substitute(text, _noise_rules(alphabet))
    if len(_SEPARATORS.findall(text)) > _MOST_SEPARATORS:
        text = _SEPARATORS.sub(" ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _substitute(text, _wording_rules(alphabet)).strip()


def _substitute(text: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _without_tags(text: str, *, strict: bool) -> str:
    if not strict and not _MARKUP.search(text):
        return text
    with warnings.catch_warnings():
        # It takes captions that resemble a path, a link or XML for mistakes.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return BeautifulSoup(text, features="html.parser").text
        except (ParserRejectedMarkup, UnicodeEncodeError) as error:
            if strict:
                raise DataError(f"the caption can't be parsed as HTML: {text[:80]!r}") from error
            return _TAG.sub("", text)


@cache
def _alphabet(*, unspaced_scripts: bool) -> _Alphabet:
    if not unspaced_scripts:
        return _Alphabet(r"\w", r"\S", r"\b")
    word = rf"[^\W{_UNSPACED}]"
    edge = f"(?:(?<={word})(?!{word})|(?<!{word})(?={word}))"
    return _Alphabet(word, rf"[^\s{_UNSPACED}]", edge)


@cache
def _link_rules(alphabet: _Alphabet) -> _Rules:
    word, _, edge = alphabet
    address = rf"{_DOMAIN}(?:{word}|[/-])*{edge}/?(?!@)"
    # The scheme alone is cut from an address with other endings.
    return tuple(
        (re.compile(rf"{edge}(?:{scheme}:(?:/{{1,3}}|[a-z0-9%])|{address})"), "")
        for scheme in ("https?", "www")
    )


@cache
def _noise_rules(alphabet: _Alphabet) -> _Rules:
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
def _wording_rules(alphabet: _Alphabet) -> _Rules:
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
