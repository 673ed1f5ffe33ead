"""Finds the video that a row of a caption list means."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from kinetoscope.data.sources.listing import VIDEO_SUFFIXES, suffix_of

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DRIVE = re.compile(r"[A-Za-z]:/")
# So many videos of one file name are compared one by one; more are found by their folders.
_FEW = 16
# What a path relative to the list's own folder is worth; it beats any common end.
_EXACT = 1_000_000


@dataclass(frozen=True, slots=True)
class Match:
    """A video that a path names.

    Attributes:
        name: of the video.
        closeness: of the path to the video's own; the greater wins where two rows name one video.
    """

    name: str
    closeness: int


class VideoNames:
    """The videos of a place, by what lists call them.

    A path matches a video whose path ends as it does, or that ends as the video's does (another
    root); capitals and the form of accented letters make no difference, and the suffix may be
    missing. Where several videos match equally well, none does.

    Args:
        names: of the videos.
        place: where they lie; its folders tell two rows apart that end alike.
    """

    def __init__(self, names: Iterable[str], place: str = "") -> None:
        self._place = _parts(place)
        self._names = frozenset(names)
        self._by_base: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._names):
            base = _folded(posixpath.basename(name))
            self._by_base[base].append(name)
            self._by_stem[posixpath.splitext(base)[0]].append(name)
        self._crowds: dict[str, _Crowd] = {}

    def find(self, path: str, folder: str = "") -> Match | None:
        """Return the video that a path means.

        Args:
            path: as a list has it: relative, absolute or a URI.
            folder: of the list, below the place.
        """
        path = _plain(path)
        if not path:
            return None
        for closeness, start in ((_EXACT + 1, folder), (_EXACT, "")):
            name = posixpath.normpath(posixpath.join(start, path))
            if name in self._names:
                return Match(name, closeness)
        rated = [
            (closeness, name)
            for name in self._near(path)
            if (closeness := self._closeness(path, name))
        ]
        best = max((closeness for closeness, _ in rated), default=0)
        names = [name for closeness, name in rated if closeness == best]
        if len(names) > 1:
            names = [name for name in names if _is_called_alike(name, path)]
        return Match(names[0], best) if len(names) == 1 else None

    def named_alike(self, path: str) -> str | None:
        """Return the only video with a path's file name, wherever both lie; None without one."""
        found = self._candidates(_plain(path))
        return found[0] if len(found) == 1 else None

    def beside(self, stem: str) -> list[str]:
        """Return the videos that a file of this path, without its own suffix, belongs to."""
        if suffix_of(stem) in VIDEO_SUFFIXES and stem in self._names:
            return [stem]
        found = self._by_stem.get(_folded(posixpath.basename(stem)), [])
        folder = posixpath.dirname(stem)
        mine = [name for name in found if posixpath.dirname(name) == folder]
        same = [name for name in mine if posixpath.splitext(name)[0] == stem]
        return same or mine

    def _candidates(self, path: str) -> list[str]:
        base = _folded(posixpath.basename(path))
        if suffix_of(base) in VIDEO_SUFFIXES:
            return self._by_base.get(base, [])
        return self._by_stem.get(base, [])

    def _near(self, path: str) -> list[str]:
        """Return the candidates that may be close: of many, e.g. ``ID/video.mp4``, a few."""
        found = self._candidates(path)
        if len(found) <= _FEW:
            return found
        base = _folded(posixpath.basename(path))
        if base not in self._crowds:
            self._crowds[base] = _Crowd(found)
        return self._crowds[base].near(tuple(_parts(path)[:-1]))

    def _closeness(self, path: str, name: str) -> int:
        """Return how many folders are shared; 0 where neither path ends as the other."""
        asked, has = _parts(path), _parts(name)
        # The base name was compared already, with or without its suffix.
        whole = self._place + has
        common = 1
        for mine, theirs in zip(reversed(whole[:-1]), reversed(asked[:-1]), strict=False):
            if mine != theirs:
                break
            common += 1
        return common if common >= min(len(asked), len(has)) else 0


class _Crowd:
    """Videos of one file name, by their folders."""

    def __init__(self, names: Iterable[str]) -> None:
        self._whole: dict[tuple[str, ...], list[str]] = defaultdict(list)
        self._by_end: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name in names:
            folders = tuple(_parts(name)[:-1])
            self._whole[folders].append(name)
            for start in range(len(folders) + 1):
                ends = self._by_end[folders[start:]]
                # A third could not make two that are alike less so.
                if sum(_is_called_alike(name, other) for other in ends) < 2:  # noqa: PLR2004
                    ends.append(name)

    def near(self, asked: tuple[str, ...]) -> list[str]:
        """Return the videos whose folders end as those asked for do, or that these end as."""
        longer = self._by_end.get(asked, [])
        shorter = [self._whole.get(asked[start:], ()) for start in range(1, len(asked) + 1)]
        return [*longer, *chain.from_iterable(shorter)]


def _is_called_alike(name: str, other: str) -> bool:
    return posixpath.basename(name) == posixpath.basename(other)


def base_name(path: str) -> str:
    """Return a path's file name, the same for all ways to write it."""
    return _folded(posixpath.basename(_plain(path)))


def _plain(path: str) -> str:
    path = path.strip().strip("\"'").strip().replace("\\", "/")
    if "\0" in path:
        return ""
    return _SCHEME.sub("/", path)


def _parts(path: str) -> list[str]:
    path = _DRIVE.sub("/", posixpath.normpath(_plain(path) or "."))
    return [_folded(part) for part in path.split("/") if part not in ("", ".", "..")]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
