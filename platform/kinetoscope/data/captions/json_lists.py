"""Captions in JSON: arrays and objects, in one value or one a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kinetoscope.data.captions.rows import (
    PATH_KEYS,
    TEXT_KEYS,
    Finds,
    NotAListError,
    ParsedList,
    PassedOver,
    Row,
    columns_of,
    named_columns,
)

_Item = tuple[int, Any]
# Objects by which the key of paths is told.
_NUM_SAMPLED = 1000
_NO_TEXT = "no caption, or one that is no text"


def read_json(content: str, finds: Finds) -> ParsedList:
    """Read captions from JSON: an array of objects, ``{PATH: CAPTION}``, or an object a line.

    An array may also lie in an object; pairs in it are path and caption. Of an array of captions
    the first counts.

    Args:
        content: of the file.
        finds: tells whether a path names a video.

    Raises:
        NotAListError: it is no list of captions, or no JSON.
    """
    passed_over = PassedOver()
    whole = _loaded(content)
    if whole is None:
        items = list(_lines(content, passed_over))
        return _of_objects("JSON, an object a line", items, finds, passed_over)
    found = _array_in(whole)
    if found is not None:
        pairs = [
            dict(zip(("path", "text"), item, strict=False)) for item in found if _is_pair(item)
        ]
        items = list(enumerate(pairs if len(pairs) == len(found) else found, start=1))
        return _of_objects("JSON array", items, finds, passed_over)
    if columns_of(whole, PATH_KEYS) and columns_of(whole, TEXT_KEYS):
        return _of_objects("JSON, an object a line", [(1, whole)], finds, passed_over)
    return _of_map(whole, finds, passed_over)


def caption_in(content: str) -> str | None:
    """Return the caption in a JSON object that belongs to one video; None where it has none."""
    value = _loaded(content)
    if not isinstance(value, dict):
        return None
    return next((text for key in columns_of(value, TEXT_KEYS) if (text := _text(value[key]))), None)


def _loaded(content: str) -> Any | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list | dict) else None


def _array_in(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    arrays = [v for v in value.values() if isinstance(v, list) and any(map(_is_object, v))]
    captioned = [array for array in arrays if _has_captions(array)] or arrays
    return max(captioned, key=len, default=None)


def _has_captions(array: list[Any]) -> bool:
    first = next(filter(_is_object, array))
    return bool(columns_of(first, PATH_KEYS) and columns_of(first, TEXT_KEYS))


def _is_pair(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)  # noqa: PLR2004


def _lines(content: str, passed_over: PassedOver) -> Iterator[_Item]:
    num_read = 0
    broken: list[tuple[int, str]] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            broken.append((number, line))
            continue
        num_read += 1
        yield number, value
    if not num_read:
        raise NotAListError("it is no JSON", damaged=True)
    for number, line in broken:
        passed_over.add("no JSON", number, line)


def _of_objects(
    layout: str, items: list[_Item], finds: Finds, passed_over: PassedOver
) -> ParsedList:
    objects = [value for _, value in items if _is_object(value)]
    names = dict.fromkeys(name for value in objects for name in value)
    sample = objects[:: max(1, len(objects) // _NUM_SAMPLED)]
    columns = named_columns(names, sample, finds)
    if columns is None:
        raise NotAListError("no key is called as paths are")
    path, text = columns
    parsed = ParsedList(f"{layout}, keys {path} and {text}", passed_over=passed_over)
    for line, value in items:
        given = value.get(path) if _is_object(value) else None
        if not isinstance(given, str):
            passed_over.add("no path", line, json.dumps(value, ensure_ascii=False))
        elif not (caption := _text(value.get(text))):
            passed_over.add(_NO_TEXT, line, given)
        else:
            parsed.rows.append(Row(line, given, caption))
    return parsed


def _of_map(value: dict[str, Any], finds: Finds, passed_over: PassedOver) -> ParsedList:
    if not any(map(finds, value)):
        raise NotAListError("no key is called as paths are, and none names a video")
    parsed = ParsedList("JSON object, captions by path", passed_over=passed_over)
    for line, (path, given) in enumerate(value.items(), start=1):
        keys = columns_of(given, TEXT_KEYS) if _is_object(given) else []
        caption = _text(given[keys[0]] if keys else given)
        if caption:
            parsed.rows.append(Row(line, path, caption))
        else:
            passed_over.add(_NO_TEXT, line, path)
    return parsed


def _text(value: Any) -> str | None:
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) and value.strip() else None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
