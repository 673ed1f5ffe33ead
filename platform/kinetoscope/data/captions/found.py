"""The captions found, and what each file gave: for the run, and for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kinetoscope.core.errors import DataError

if TYPE_CHECKING:
    from kinetoscope.data.captions.rows import Caption


_MOST_TOLD = 6
_EXAMPLES = 3


@dataclass(slots=True)
class ListReport:
    """What one file that may hold captions gave.

    Attributes:
        file: its name below the place.
        layout: what it was read as; empty for one that is no list.
        num_rows: rows that name a path and a caption, and those that were passed over.
        num_matched: rows whose caption a video has.
        num_by_name: of these, rows whose path leads nowhere, but whose file name is the only such.
        passed_over: rows that gave none, by reason.
        examples: the first of these, by reason.
        why_not: why it was passed over as a whole; empty for a list.
        meant: it is a list of captions, or was meant as one.
    """

    file: str
    layout: str = ""
    num_rows: int = 0
    num_matched: int = 0
    num_by_name: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    why_not: str = ""
    meant: bool = False


@dataclass(slots=True)
class Captions:
    """The captions found, by the video's name, and what each file gave.

    Attributes:
        by_video: of the videos that have one.
        lists: of all files that are no text of one video.
        num_beside: captions from files beside their videos.
        num_videos: videos that may be opened.
    """

    by_video: dict[str, Caption] = field(default_factory=dict)
    lists: list[ListReport] = field(default_factory=list)
    num_beside: int = 0
    num_videos: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what is told of them: counts, and the files."""
        return {
            "videos": self.num_videos,
            "with_caption": len(self.by_video),
            "beside": self.num_beside,
            "lists": [asdict(report) for report in self.lists],
        }

    def require(self, least: float, place: str) -> None:
        """Check that lists, where there are any, have the captions of the videos.

        Args:
            least: share of the videos that must have a caption.
            place: where the videos are, for the error.

        Raises:
            DataError: fewer have one; names each list, and what became of its rows.
        """
        meant = [asdict(report) for report in self.lists if report.meant]
        if not meant or len(self.by_video) >= least * self.num_videos:
            return
        lines = [line for report in meant for line in list_lines(report)]
        raise DataError(
            f"{len(self.by_video)} of {self.num_videos} videos in {place} have a caption, "
            f"although there are lists: {'; '.join(lines[:_MOST_TOLD])}",
            hint="mend the lists (layouts: docs/data.md), or let the videos without a caption "
            "be called by their file names: --set prepare_data.captions.min_matched=0",
        )


def caption_lines(told: Mapping[str, Any]) -> list[str]:
    """Return what `Captions.to_json` told, in lines for people."""
    count, videos = told["with_caption"], told["videos"]
    beside = f", {told['beside']} of them from files beside them" if told["beside"] else ""
    lines = [f"captions: {count} of {videos} videos{beside}"]
    if count < videos:
        lines.append(f"  {videos - count} have none (prepare_data.captions.missing)")
    given = [report for report in told["lists"] if not report["why_not"]]
    lines += [f"  {line}" for report in given for line in list_lines(report)]
    return lines + [f"  {line}" for line in _passed_over(told["lists"])]


def _passed_over(reports: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield which files gave nothing: those of one reason in one line."""
    files: dict[str, list[str]] = {}
    for report in reports:
        if report["why_not"]:
            files.setdefault(report["why_not"], []).append(report["file"])
    for why, names in files.items():
        if len(names) == 1:
            yield f"{names[0]}: passed over ({why})"
        else:
            examples = ", ".join(names[:_EXAMPLES])
            yield f"{len(names)} files passed over ({why}), e.g. {examples}"


def list_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what a file gave, and what it did not."""
    if report["why_not"]:
        return [f"{report['file']}: passed over ({report['why_not']})"]
    by_name = report.get("num_by_name", 0)
    head = (
        f"{report['file']}: {report['num_matched']} of {report['num_rows']} rows matched a video "
        f"({report['layout']}{f'; {by_name} by the file name alone' if by_name else ''})"
    )
    return [
        head,
        *(
            f"{report['file']}: {count} rows passed over: {reason}, "
            f"e.g. {', '.join(report['examples'].get(reason, ()))}"
            for reason, count in report["passed_over"].items()
        ),
    ]
