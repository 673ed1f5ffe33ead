"""Gathers the captions of a place's videos, and tells of every file where they came from.

Captions come from a text file beside the video (``clip.txt``, ``clip.mp4.txt``), a JSON object
beside it, lists (`tables`, `json_lists`), and two text files of which one names the videos and the
other has their captions, line by line. A file beside the video wins over the lists; of two lists
that name the same video, the one whose name sorts first.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kinetoscope.data.captions.found import Captions, ListReport
from kinetoscope.data.captions.json_lists import caption_in, read_json
from kinetoscope.data.captions.meant import is_named_as_captions, is_of_videos
from kinetoscope.data.captions.rows import (
    LONGEST_CAPTION,
    Caption,
    NotAListError,
    ParsedList,
    PassedOver,
    Row,
    one_line,
)
from kinetoscope.data.captions.tables import read_table
from kinetoscope.data.captions.video_names import VideoNames, base_name
from kinetoscope.data.sources.listing import VIDEO_SUFFIXES, SourceListing, suffix_of

_JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
_VIDEOS_STEM = re.compile(r"videos?(_?(list|paths?|files?))?", re.IGNORECASE)
_TEXTS_STEM = re.compile(r"(video_?)?(prompts?|captions?|texts?)", re.IGNORECASE)
_BEHIND = (".txt", ".json", ".caption")


def gather_captions(
    listing: SourceListing, contents: Mapping[str, bytes], place: str = ""
) -> Captions:
    """Return the captions of the videos.

    Args:
        listing: of the videos and of the files that may hold captions.
        contents: of those files, by name, as far as they may be opened.
        place: where they lie, in words; its folders tell two rows apart that end alike.
    """
    videos = [video.name for video in listing.openable_videos]
    gathering = _Gathering(VideoNames(videos, place), Captions(num_videos=len(videos)))
    texts: dict[str, str] = {}
    for sidecar in listing.sidecars:
        if sidecar.name not in contents:
            # A broken link or a huge file of any name is no sign of captions.
            why = sidecar.refused or "it was not read"
            gathering.pass_over(sidecar.name, why, meant=is_named_as_captions(sidecar.name))
            continue
        data = contents[sidecar.name]
        try:
            texts[sidecar.name] = _text(data)
        except NotAListError as error:
            gathering.damaged(sidecar.name, error, data.decode(errors="replace"))
    for name in list(texts):
        if gathering.beside(name, texts[name]):
            del texts[name]
    for name, mate in _pairs(texts):
        gathering.pair(name, texts.pop(name), mate, texts.pop(mate))
    for name, text in texts.items():
        gathering.read(name, text)
    gathering.captions.lists.sort(key=lambda report: report.file)
    return gathering.captions


@dataclass(slots=True)
class _Gathering:
    names: VideoNames
    captions: Captions

    def pass_over(self, name: str, why: str, *, meant: bool) -> None:
        self.captions.lists.append(ListReport(name, why_not=why, meant=meant))

    def damaged(self, name: str, error: NotAListError, text: str) -> None:
        """Pass a file over; it counts as meant where its name or its readable part says so."""
        folder, stem = posixpath.dirname(name), posixpath.splitext(name)[0]
        of_videos = error.damaged and (
            (suffix_of(name) in _BEHIND and bool(self.names.beside(stem)))
            or is_of_videos(text, self.names, folder)
        )
        self.pass_over(name, error.why, meant=of_videos or is_named_as_captions(name))

    def beside(self, name: str, text: str) -> bool:
        """Take the caption of a file that belongs to one video; tell whether it does."""
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() not in _BEHIND:
            return False
        caption = caption_in(text) if suffix.lower() == ".json" else text
        videos = self.names.beside(stem)
        if caption is None or not videos:
            return False
        if len(caption) > LONGEST_CAPTION:
            self.pass_over(name, f"longer than {LONGEST_CAPTION} characters", meant=True)
            return True
        for video in videos:
            if caption := one_line(caption):
                self.captions.by_video.setdefault(video, Caption(caption, name))
                self.captions.num_beside += 1
        return True

    def pair(self, name: str, videos: str, mate: str, texts: str) -> None:
        """Take captions from two files, line by line."""
        paths, lines = videos.rstrip("\n").split("\n"), texts.rstrip("\n").split("\n")
        if len(paths) != len(lines):
            why = f"{name} has {len(paths)} lines and {mate} has {len(lines)}: none is taken"
            self.pass_over(mate, why, meant=True)
            return
        parsed = ParsedList(f"lines, one for each line of {name}")
        for number, (path, text) in enumerate(zip(paths, lines, strict=True), start=1):
            parsed.rows.append(Row(number, path, text))
        self._take(mate, posixpath.dirname(name), parsed)

    def read(self, name: str, text: str) -> None:
        """Take captions from a list; a file that is none is passed over."""
        folder = posixpath.dirname(name)

        def finds(path: str) -> bool:
            return bool(self.names.find(path, folder) or self.names.named_alike(path))

        is_json = suffix_of(name) in _JSON_SUFFIXES
        try:
            parsed = (read_json if is_json else read_table)(text, finds)
        except NotAListError as error:
            self.damaged(name, error, text)
            return
        self._take(name, folder, parsed)

    def _take(self, name: str, folder: str, parsed: ParsedList) -> None:
        passed = parsed.passed_over
        num_rows = len(parsed.rows) + passed.counts.total()
        best: dict[str, tuple[int, Row]] = {}
        others: list[Row] = []
        for row in parsed.rows:
            match = self.names.find(row.path, folder)
            if not row.text.strip():
                passed.add("no caption", row.line, row.path)
            elif len(row.text) > LONGEST_CAPTION:
                passed.add(f"longer than {LONGEST_CAPTION} characters", row.line, row.path)
            elif not _is_text(row.text):
                passed.add("half a character (a lone surrogate)", row.line, row.path)
            elif match is None:
                others.append(row)
            else:
                _keep_closest(best, match.name, match.closeness, row, passed)
        num_by_name = self._take_named_alike(best, others, passed)
        num_matched = 0
        for video, (_, row) in best.items():
            if video in self.captions.by_video:
                origin = self.captions.by_video[video].origin
                passed.add("its video has a caption from another file", row.line, origin)
                continue
            text = one_line(row.text)
            self.captions.by_video[video] = Caption(text, f"{name}:{row.line}")
            num_matched += 1
        self.captions.lists.append(
            ListReport(
                name,
                layout=parsed.layout,
                num_rows=num_rows,
                num_matched=num_matched,
                num_by_name=num_by_name,
                passed_over=dict(sorted(passed.counts.items())),
                examples=passed.examples,
                # A table of other things may have columns called name and title.
                meant=bool(num_matched)
                or is_named_as_captions(name)
                or any(suffix_of(row.path) in VIDEO_SUFFIXES for row in parsed.rows),
            )
        )

    def _take_named_alike(
        self, best: dict[str, tuple[int, Row]], others: list[Row], passed: PassedOver
    ) -> int:
        """Match rows whose path leads nowhere by the file name, where it is the only such one."""
        counts = Counter(base_name(row.path) for row in others)
        num_taken = 0
        for row in others:
            video = self.names.named_alike(row.path)
            if video is None or video in best or counts[base_name(row.path)] > 1:
                passed.add("no such video, or several", row.line, row.path)
            else:
                best[video] = (0, row)
                num_taken += 1
        return num_taken


def _keep_closest(
    best: dict[str, tuple[int, Row]], video: str, closeness: int, row: Row, passed: PassedOver
) -> None:
    """Of two rows for one video, keep the one with the closer path, or else the first."""
    if video not in best:
        best[video] = (closeness, row)
        return
    kept_closeness, kept = best[video]
    loser = row
    if closeness > kept_closeness:
        best[video], loser = (closeness, row), kept
    same = one_line(kept.text) == one_line(row.text)
    reason = "the same again" if same else "another caption for a video that has one"
    passed.add(reason, loser.line, loser.path)


def _pairs(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the names of a file of videos and of one of captions in the same folder."""
    folders: dict[str, dict[str, str]] = {}
    for name in sorted(texts):
        stem, suffix = posixpath.splitext(posixpath.basename(name))
        kinds = {"videos": _VIDEOS_STEM, "texts": _TEXTS_STEM}
        for kind, pattern in kinds.items():
            if suffix.lower() == ".txt" and pattern.fullmatch(stem):
                folders.setdefault(posixpath.dirname(name), {}).setdefault(kind, name)
    for found in folders.values():
        if len(found) == 2:  # noqa: PLR2004 (both kinds)
            yield found["videos"], found["texts"]


def _text(data: bytes) -> str:
    """Decode a file with the line ends of Python's text files; UTF-8, or UTF-16 with its mark."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        # Never guessed: of all the encodings that it may be in, a wrong one gives wrong words.
        kind = encoding.removesuffix("-sig").upper()
        line = data.count(b"\n", 0, error.start) + 1
        raise NotAListError(
            f"it is not {kind} (line {line}): save it as UTF-8", damaged=True
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
