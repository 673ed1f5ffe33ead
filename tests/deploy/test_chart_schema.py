"""values.schema.json: closed, described, and in step with values.yaml."""

from __future__ import annotations

import pytest
import yaml
from rendering import CHART, ChartRefusedError, chart, render
from values_schema import Value, nest, object_schemas, schema, types, values

VALUES = values() if (CHART / "values.schema.json").exists() else []
LEAVES = [value for value in VALUES if not value.is_section]


def _defaults(
    value: dict[str, object], path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], object]:
    """Every path of values.yaml; sections that the schema has as sections are descended into."""
    sections = {v.path for v in VALUES if v.is_section}
    found = {}
    for key, inner in value.items():
        here = (*path, key)
        found[here] = inner
        if here in sections and isinstance(inner, dict):
            found |= _defaults(inner, here)
    return found


def test_the_schema_has_values() -> None:
    assert len(LEAVES) > 50


def test_every_object_is_closed() -> None:
    assert [
        where
        for where, node in object_schemas()
        # A map (labels, limits) has no fixed keys, but its values have a type.
        if node.get("additionalProperties") is not False
        and not ("properties" not in node and _types_its_values(node))
    ] == []


def _types_its_values(node: object) -> bool:
    assert isinstance(node, dict)
    extra = node.get("additionalProperties")
    return isinstance(extra, dict) and (bool(types(extra)) or "$ref" in extra)


def test_every_value_is_described() -> None:
    assert [str(value) for value in VALUES if not value.node.get("description")] == []


def test_values_and_schema_name_the_same_keys() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(_defaults(defaults)) == {value.path for value in VALUES}


def test_every_default_in_the_file_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    leaves = {value.path[-1] for value in LEAVES}
    bare = [
        line.strip()
        for before, line in zip(["", *lines], lines, strict=False)
        if line.partition(":")[0].strip() in leaves
        and ":" in line
        and not before.strip().startswith("#")
        and not line.strip().startswith(("#", "-"))
        and (len(line) - len(line.lstrip())) <= 2
        and line.partition(":")[2].strip()
    ]
    assert bare == []


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_misspelt_key_is_refused_by_name(value: Value) -> None:
    misspelt = value.path[-1] + "z"
    with pytest.raises(Exception, match=f"'{misspelt}' not allowed"):
        chart().validate_schema(nest((*value.path[:-1], misspelt), "x"))


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_of_the_wrong_type_is_refused_by_name(value: Value) -> None:
    with pytest.raises(Exception, match=f"at '/{'/'.join(value.path)}"):
        chart().validate_schema(value.nested(value.wrong()))


@pytest.mark.parametrize("value", [v for v in LEAVES if "enum" in v.node], ids=str)
def test_a_value_outside_its_choices_is_refused_by_name(value: Value) -> None:
    with pytest.raises(Exception, match=f"at '/{'/'.join(value.path)}'.*one of"):
        chart().validate_schema(value.nested("neither"))


def test_rendering_checks_the_schema_too() -> None:
    with pytest.raises(ChartRefusedError, match="'replicaz' not allowed"):
        render({"mlflow": {"replicaz": 2}})


def test_the_root_is_a_closed_object() -> None:
    assert schema()["additionalProperties"] is False
