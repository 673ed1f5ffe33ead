"""Captions in tables: CSV, semicolons, tabs; with a header or without, quoted well or not."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from kinetoscope.data.captions.rows import (
    Finds,
    NotAListError,
    ParsedList,
    PassedOver,
    Row,
    first_of_listed,
    named_columns,
)

_DELIMITERS = (",", ";", "\t", "|")
# Rows by which the delimiter and the columns are told.
_NUM_SAMPLED = 200
# A quoted field may hold line ends: up to this many.
_MOST_LINES = 1000
# What is beyond is no table of captions: its fields alone would fill the memory.
_LONGEST_LINE = 1_000_000
_MOST_COLUMNS = 10_000
_MOST_OPEN_QUOTES = 20
_NUMBER = re.compile(r"\s*[-+]?[\d.]+(e[-+]?\d+)?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Record:
    line: int
    fields: list[str]


def read_table(content: str, finds: Finds) -> ParsedList:
    r"""Read a table of captions.

    Delimiters may stand unquoted in the captions where these are the only such column: what is
    between the columns before and after them is the caption.

    Args:
        content: of the file, with ``\n`` as line ends.
        finds: tells whether a path names a video.

    Raises:
        NotAListError: it is no table of captions.
    """
    first, lines = _without_separator_line(content.split("\n"))
    if lines and len(lines[0]) > _LONGEST_LINE:
        raise NotAListError(f"its first line has {len(lines[0])} characters")
    delimiters = (first,) if first else _DELIMITERS
    sample = [line for line in lines[:_NUM_SAMPLED] if line.strip()]
    if not sample:
        raise NotAListError("it is empty")
    damage: NotAListError | None = None
    for delimiter in delimiters:
        try:
            parsed = _with_header(lines, delimiter, finds, offset=1 if first else 0)
        except NotAListError as error:
            damage = error
            continue
        if parsed is not None:
            return parsed
    if damage is not None:
        raise damage
    best = max(delimiters, key=lambda delimiter: _num_hits(sample, delimiter, finds))
    if not _num_hits(sample, best, finds):
        raise NotAListError("no column is called as paths are, and no field names a video")
    return _without_header(lines, best, finds, offset=1 if first else 0)


def _without_separator_line(lines: list[str]) -> tuple[str, list[str]]:
    """Take off the line ``sep=;`` that spreadsheets write."""
    head = lines[0].strip()
    if head.lower().startswith("sep=") and len(head) == len("sep=;"):
        return head[-1], lines[1:]
    return "", lines


def _with_header(
    lines: list[str], delimiter: str, finds: Finds, *, offset: int
) -> ParsedList | None:
    reading = _Reading(lines, delimiter, finds, offset)
    records = reading.records()
    header = next(records, None)
    if header is None or len(header.fields) < 2:  # noqa: PLR2004 (path and caption)
        return None
    names = [name.strip() for name in header.fields]
    if len(set(names)) < len(names):
        first_of = {name: i for i, name in reversed(list(enumerate(names)))}
        names = [name if first_of[name] == i else f"{name}.{i}" for i, name in enumerate(names)]
    # A file of another layout is not read to its end.
    first = list(islice(records, _NUM_SAMPLED))
    sample = [dict(zip(names, record.fields, strict=False)) for record in first]
    columns = named_columns(names, sample, finds)
    if columns is None:
        return None
    path, text = (names.index(column) for column in columns)
    layout = f"table, {_shown(delimiter)}, columns {columns[0]} and {columns[1]}"
    parsed = ParsedList(layout, passed_over=reading.passed_over)
    _take(parsed, chain(first, records), delimiter, (path, text, len(names)))
    return parsed


def _without_header(lines: list[str], delimiter: str, finds: Finds, *, offset: int) -> ParsedList:
    """Read a table whose first or last field names a video, and whose caption is the rest."""
    reading = _Reading(lines, delimiter, finds, offset)
    listed = list(reading.records())
    at_start = sum(finds(record.fields[0]) for record in listed)
    at_end = sum(finds(record.fields[-1]) for record in listed)
    layout = f"table, {_shown(delimiter)}, no header"
    parsed = ParsedList(layout, passed_over=reading.passed_over)
    if at_start >= at_end:
        numbers = min((_num_numbers_at_end(record.fields[2:]) for record in listed), default=0)
        _take(parsed, listed, delimiter, (0, 1, 2 + numbers))
    else:
        _take(parsed, listed, delimiter, (1, 0, 2))
    return parsed


def _num_numbers_at_end(fields: list[str]) -> int:
    """Count the fields at the end that can't be a part of a caption."""
    count = 0
    for field in reversed(fields):
        if not _NUMBER.fullmatch(field):
            break
        count += 1
    return count


def _take(
    parsed: ParsedList, records: Iterable[_Record], delimiter: str, columns: tuple[int, int, int]
) -> None:
    """Note the rows; of one with too many fields, the caption has the delimiters."""
    path, text, count = columns
    for record in records:
        fields = record.fields
        spare = len(fields) - count
        if spare < 0 and max(path, text) >= len(fields):
            parsed.passed_over.add("too few columns", record.line, delimiter.join(fields))
            continue
        spare = max(spare, 0)
        # The caption takes what is too much; a path behind it stands so much further.
        shifted = path + spare if path > text else path
        caption = delimiter.join(fields[text : text + spare + 1])
        parsed.rows.append(Row(record.line, fields[shifted], first_of_listed(caption.strip())))


class _Reading:
    """Splits lines into records; one whose quotes can't be right is passed over."""

    def __init__(self, lines: list[str], delimiter: str, finds: Finds, offset: int) -> None:
        self._lines, self._delimiter, self._finds = lines, delimiter, finds
        self._offset = offset
        self.passed_over = PassedOver()

    def records(self) -> Iterator[_Record]:
        """Yield the records, without empty lines.

        Raises:
            NotAListError: so many quotes are open that it is no such table.
        """
        at = 0
        while at < len(self._lines):
            line, number = self._lines[at], at + 1 + self._offset
            count = 1
            if not line.strip():
                pass
            elif _is_too_long(line, self._delimiter):
                reason = f"over {_LONGEST_LINE} characters or {_MOST_COLUMNS} columns"
                self.passed_over.add(reason, number, line)
            elif '"' not in line:
                yield _Record(number, line.split(self._delimiter))
            else:
                fields, count = self._quoted(at)
                if fields is None:
                    self._note_open_quote(number, line)
                else:
                    yield _Record(number, fields)
            at += count

    def _quoted(self, at: int) -> tuple[list[str] | None, int]:
        """Return the fields of a record with quotes and how many lines it has; None if broken."""
        loose = self._lines[at].split(self._delimiter)
        if not any(field.lstrip().startswith('"') for field in loose):
            return loose, 1  # quotes within a field that is not quoted are part of it
        text: list[str] = []
        num_quotes = 0
        for line in self._lines[at : at + _MOST_LINES]:
            if text and self._finds(line.split(self._delimiter)[0].strip('" ')):
                break  # another row would be swallowed
            text.append(line)
            num_quotes += line.count('"')
            if num_quotes % 2 == 0:
                return _split_strictly(text, self._delimiter), len(text)
        return None, 1

    def _note_open_quote(self, number: int, line: str) -> None:
        reason = "a quote is not closed, or not followed by a delimiter"
        self.passed_over.add(reason, number, line)
        if self.passed_over.counts[reason] > _MOST_OPEN_QUOTES:
            raise NotAListError(
                f"more than {_MOST_OPEN_QUOTES} rows with {reason}; the last in line {number}",
                damaged=True,
            )


def _is_too_long(line: str, delimiter: str) -> bool:
    return len(line) > _LONGEST_LINE or line.count(delimiter) > _MOST_COLUMNS


def _split_strictly(lines: list[str], delimiter: str) -> list[str] | None:
    """Return the fields of one record, or None where its quotes can't be right."""
    ends = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    spaced = f'{delimiter} "' in "\n".join(lines)
    try:
        records = list(csv.reader(ends, delimiter=delimiter, strict=True, skipinitialspace=spaced))
    except csv.Error:
        return None
    return records[0] if len(records) == 1 else None


def _num_hits(sample: list[str], delimiter: str, finds: Finds) -> int:
    """Count the lines of which the first or last field names a video."""
    usable = [line for line in sample if not _is_too_long(line, delimiter)]
    split = [line.split(delimiter) for line in usable if delimiter in line]
    return sum(any(finds(end.strip('" ')) for end in (line[0], line[-1])) for line in split)


def _shown(delimiter: str) -> str:
    return "tabs" if delimiter == "\t" else repr(delimiter)
