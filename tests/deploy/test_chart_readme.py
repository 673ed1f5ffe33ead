"""The table of values in the chart's README, against values.yaml."""

from __future__ import annotations

import json
import re

import yaml
from rendering import CHART
from values_schema import values

_ROW = re.compile(r"^\| `([\w.]+)` \| `(.*)` \| (.+) \|$", re.MULTILINE)


def _default(name: str) -> object:
    found = yaml.safe_load((CHART / "values.yaml").read_text())
    for key in name.split("."):
        found = found[key]
    return found


def test_the_table_has_every_value_with_its_default() -> None:
    rows = _ROW.findall((CHART / "README.md").read_text().partition("## Values")[2])
    assert {name: json.loads(default) for name, default, _ in rows} == {
        name: _default(name) for name in _documented()
    }


def _documented() -> list[str]:
    """Values without sections; requests and limits are told in one row."""
    names = [str(value) for value in values() if not value.is_section]
    return list(dict.fromkeys(re.sub(r"(resources)\.(requests|limits)$", r"\1", n) for n in names))
