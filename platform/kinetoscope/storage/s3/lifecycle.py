"""What a bucket's lifecycle rules delete by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from kinetoscope.storage.s3.connection import Message, connect
from kinetoscope.storage.s3.errors import RequestError
from kinetoscope.storage.s3.settings import S3Location, S3Settings

if TYPE_CHECKING:
    from kinetoscope.storage.s3.connection import S3Connection

_NONE = "NoSuchLifecycleConfiguration"
_ROOT = "LifecycleConfiguration"


@dataclass(frozen=True, slots=True)
class ExpiryRule:
    """A rule in force that deletes objects, whose current version it is, by their age or a date.

    Attributes:
        name: of the rule; empty where it has none.
        prefix: of the keys that it looks at; empty for all.
        when: e.g. ``after 30 days``.
    """

    name: str
    prefix: str
    when: str


def rules_that_delete(uri: str, keys: str, *, largest_bytes: int) -> list[ExpiryRule]:
    """Return the rules of a store's bucket that delete some of its objects, which have no tags.

    Args:
        uri: ``s3://BUCKET[/PREFIX]``, the root of the store.
        keys: of the objects, below the root; a part that is ``*`` stands for any.
        largest_bytes: of these objects; rules for larger ones alone are left out.

    Raises:
        ConfigError: the URI or the environment is wrong.
        RequestError: nobody knows: no answer, no right to ask, or a server without lifecycles.
    """
    location = S3Location.of(uri)
    connection = connect(location.bucket, S3Settings.from_environment())
    try:
        configuration = connection.call(lambda: _ask(connection), doing="read the lifecycle of")
    except RequestError as error:
        if error.code == _NONE:
            return []
        raise
    below_bucket = f"{location.prefix}/{keys}" if location.prefix else keys
    rules = (_expiry(rule, largest_bytes) for rule in configuration.findall("{*}Rule"))
    return [rule for rule in rules if rule is not None and _may_start(below_bucket, rule.prefix)]


def _ask(connection: S3Connection) -> ET.Element:
    answer = connection.send(Message("GET", query={"lifecycle": ""}))
    configuration = ET.fromstring(answer.data)  # noqa: S314 (from the server that keeps our data)
    if not configuration.tag.endswith(_ROOT):
        raise ET.ParseError(f"the answer is a {configuration.tag}, no {_ROOT}")
    return configuration


def _expiry(rule: ET.Element, largest_bytes: int) -> ExpiryRule | None:
    days, date = _text(rule, "Expiration/Days"), _text(rule, "Expiration/Date")
    larger = max(
        int(_text(rule, path) or 0)
        for path in ("Filter/ObjectSizeGreaterThan", "Filter/And/ObjectSizeGreaterThan")
    )
    tagged = any(_find(rule, path) is not None for path in ("Filter/Tag", "Filter/And/Tag"))
    if _text(rule, "Status") != "Enabled" or not (days or date) or tagged or larger > largest_bytes:
        return None
    # The last one is the older form, without a filter.
    prefixes = (_text(rule, path) for path in ("Filter/Prefix", "Filter/And/Prefix", "Prefix"))
    prefix = next(filter(None, prefixes), "")
    return ExpiryRule(_text(rule, "ID"), prefix, f"after {days} days" if days else f"on {date}")


def _may_start(keys: str, prefix: str) -> bool:
    """Tell whether a key of these may start with the prefix."""
    *whole, last = prefix.split("/")
    parts = keys.split("/")
    if len(whole) >= len(parts):
        return False
    same = all(part in ("*", own) for part, own in zip(parts, whole, strict=False))
    return same and (parts[len(whole)] == "*" or parts[len(whole)].startswith(last))


def _find(element: ET.Element, path: str) -> ET.Element | None:
    return element.find("/".join(f"{{*}}{name}" for name in path.split("/")))


def _text(element: ET.Element, path: str) -> str:
    found = _find(element, path)
    return "" if found is None else (found.text or "").strip()
