"""Say what is wrong in a config: file, line and key, the value, and what is allowed there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

from pydantic import ValidationError

from kinetoscope.config.run import RunConfig
from kinetoscope.config.tree import Path, child, leaves, nearest
from kinetoscope.config.wrong_values import told_of
from kinetoscope.core.errors import ConfigError
from kinetoscope.core.text import shortened
from kinetoscope.core.yaml_text.nodes import Node, plain
from kinetoscope.models.kinds import unusable_kind

_MAX_TOLD = 10
# Of thousands of errors the first ones are put in order, which takes longer than finding them.
_MAX_SORTED = 30
_MAX_PLACES = 3
_MAX_PATH_CHARS = 200
# A word in quotes is a value.
_KEYS = re.compile(r"(?<![\w'])[A-Za-z_]\w*(?:\.\w+)*")


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        path: keys down to the value.
        told: what is wrong with it, and what is allowed.
        against: keys of other values that it does not go with, told by their places.
    """

    path: Path
    told: str
    against: tuple[Path, ...] = ()


def validated(tree: Node, source: str) -> RunConfig:
    """Return the config that a tree describes.

    Types are strict: no text for a number, no number for text.

    Args:
        tree: of the values.
        source: what it is, for an error.

    Raises:
        ConfigError: naming the place of each key that is wrong, its value and what is allowed.
    """
    try:
        # As JSON, where pydantic is strict about scalars and still takes lists for tuples.
        return RunConfig.model_validate_json(json.dumps(plain(tree)), strict=True)
    except ValidationError as error:
        items = error.errors(include_url=False)
        # First what is unknown: a misspelt key often explains what is missing.
        items.sort(key=lambda item: item["type"] != "extra_forbidden")
        kind = unusable_kind(items[:_MAX_SORTED])
        refuse_problems(
            source,
            tree,
            _problems(items[:_MAX_SORTED], tree),
            num_more=len(items[_MAX_SORTED:]),
            hint=kind.hint if kind else None,
        )
        raise  # never: an error has problems


def refuse_problems(
    source: str, tree: Node, problems: list[Problem], *, num_more: int = 0, hint: str | None = None
) -> None:
    """Raise ``ConfigError`` when there are problems: the first ten are told, the rest is counted.

    Args:
        source: what the config is.
        tree: of its values, with their places.
        problems: what is wrong.
        num_more: how many there are beside these.
        hint: what to do about it.
    """
    if not problems:
        return
    lines = [_line(problem, tree) for problem in problems[:_MAX_TOLD]]
    num_more += len(problems) - len(lines)
    if num_more:
        lines.append(f"and {num_more:,} more")
    raise ConfigError(
        f"{source} is not a valid config:\n  " + "\n  ".join(lines),
        hint=hint or "kino config show RECIPE prints all keys, kino config schema what they allow",
    )


def _line(problem: Problem, tree: Node) -> str:
    places = " and ".join(_places(problem, tree))
    path = shortened(".".join(problem.path), _MAX_PATH_CHARS) or "the config"
    others = _all_places([nearest(tree, keys)[1] for keys in problem.against])
    told = f"{problem.told} ({' and '.join(others)})" if others else problem.told
    return ": ".join(filter(None, (places, path, told)))


def _places(problem: Problem, tree: Node) -> list[str]:
    """Return where the values stand that a problem is about: of the keys that it names, if any."""
    known, node = nearest(tree, problem.path)
    if len(known) < len(problem.path):
        return [node.place]
    named = (_named(node, tree, keys) for keys in _KEYS.findall(problem.told))
    return _all_places([found for found in named if found and found.source] or [node])


def _all_places(nodes: list[Node]) -> list[str]:
    places = dict.fromkeys(chain.from_iterable(map(_places_of, nodes)))
    return list(places)[:_MAX_PLACES]


def _places_of(node: Node) -> Iterator[str]:
    """Yield where a value begins, and what else sets a part of it: an override has no lines."""
    yield node.place
    yield from (leaf.source for _, leaf in leaves(node) if leaf.source and not leaf.line)


def _named(node: Node, tree: Node, dotted: str) -> Node | None:
    """Return the value that a text names, seen from a node or from the top."""
    keys = dotted.split(".")
    for start in (node, tree) if len(keys) > 1 else (node,):
        known, found = nearest(start, keys)
        if known and (len(keys) > 1 or len(known) == len(keys)):
            return found
    return None


def _problems(items: list[Any], tree: Node) -> list[Problem]:
    """Return one problem for each value that is wrong."""
    by_path: dict[Path, list[Any]] = {}
    for item in items:
        if item["type"] == "too_short" and item["input"]:
            continue  # pydantic also counts the entries that are wrong, each told by itself
        by_path.setdefault(_path(item, tree), []).append(item)
    # Of a choice with something wrong inside, pydantic also says that it is none of the others.
    outer = {path[:length] for path in by_path for length in range(len(path))}
    paths = [path for path in by_path if path not in outer or _stands_alone(by_path[path])]
    return [Problem(path, told_of(by_path[path], path, tree)) for path in paths]


def _path(item: Any, tree: Node) -> Path:
    """Return the keys down to a wrong value, without the names of pydantic's choices between."""
    path: Path = ()
    for part in item["loc"]:
        found = child(tree, part)
        if found is not None:
            path, tree = (*path, str(part)), found
    return (*path, str(item["loc"][-1])) if item["type"] == "missing" else path


def _stands_alone(items: list[Any]) -> bool:
    return all(item["type"] == "value_error" for item in items)
