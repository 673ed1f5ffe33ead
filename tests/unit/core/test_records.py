"""Stored records tell when they were changed."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetoscope.core.config_model import RECORD_DIGEST, Record, signed_json
from kinetoscope.core.errors import CorruptError


class Inner(Record):
    key: str
    sizes: tuple[int, ...] = ()


class Sample(Record):
    name: str
    value: float
    parts: dict[str, Inner] = {}


SAMPLE = Sample(
    name="Zoë \x1b \u7ea2",
    value=1.5e-7,
    parts={"a": Inner(key="steps/a", sizes=(1, 2)), "b": Inner(key="b")},
)


def test_a_record_comes_back_as_it_was_written() -> None:
    assert Sample.from_bytes(SAMPLE.to_bytes(), "sample.json") == SAMPLE
    odd = Sample.from_bytes(SAMPLE.model_copy(update={"value": math.nan}).to_bytes(), "x")
    assert math.isnan(odd.value)


def test_every_flipped_bit_is_told_or_changes_nothing() -> None:
    data = SAMPLE.to_bytes()
    refused = 0
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        read = _read(bytes(flipped))
        assert read == SAMPLE or "sample.json" in str(read)
        refused += read != SAMPLE
    # Harmless are only blanks for blanks and the case of an exponent or an escape.
    assert refused > 8 * len(data) * 0.8


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_a_torn_record_is_told(length: int) -> None:
    with pytest.raises(CorruptError, match=r"sample\.json is damaged"):
        Sample.from_bytes(SAMPLE.to_bytes()[:length], "sample.json")


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_told(data: bytes) -> None:
    assert isinstance(_read(data), CorruptError)


@pytest.mark.parametrize("text", ["[]", "1", "null", "{}", f'{{"{RECORD_DIGEST}": "sha256:0"}}'])
def test_json_of_any_kind_is_told(text: str) -> None:
    assert isinstance(_read(text.encode()), CorruptError)


def test_what_an_earlier_version_wrote_is_refused_with_a_way_out() -> None:
    with pytest.raises(CorruptError, match="an earlier version") as caught:
        Sample.from_bytes(json.dumps({"name": "a", "value": 1}).encode(), "run.json")
    assert "KINO_WORKSPACE" in (caught.value.hint or "")


def test_keys_that_a_later_version_added_are_ignored() -> None:
    later = signed_json(SAMPLE.model_dump(mode="json") | {"more": [1]})
    assert Sample.from_bytes(later, "sample.json") == SAMPLE


def test_a_record_of_another_kind_is_told_by_its_wrong_keys() -> None:
    with pytest.raises(CorruptError, match=r"a\.json is no Sample of this version: name"):
        Sample.from_bytes(Inner(key="x").to_bytes(), "a.json")


def _read(data: bytes) -> Sample | CorruptError:
    try:
        return Sample.from_bytes(data, "sample.json")
    except CorruptError as error:
        return error
