"""Configs as MLflow's parameters."""

from __future__ import annotations

from kinetoscope.tracking.params import MAX_VALUE_CHARS, flatten_params


def test_nested_configs_become_dotted_names_and_lists_json() -> None:
    config = {"a": {"b": 1, "c": {"d": None}}, "e": [1, {"f": "x"}], "g": {}, "h": "text"}
    assert flatten_params(config) == {
        "a.b": "1",
        "a.c.d": "null",
        "e": '[1,{"f":"x"}]',
        "g": "{}",
        "h": "text",
    }


def test_long_values_are_cut_to_the_limit_and_say_so() -> None:
    value = flatten_params({"x": "y" * 10_000})["x"]
    assert len(value) == MAX_VALUE_CHARS
    assert value.endswith("... (cut)")
