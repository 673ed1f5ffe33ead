from __future__ import annotations

import polars as pl
import pytest

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.config import FiltersConfig, PrepareDataConfig
from kinetoscope.data.prepare.filters import check_filters, drop_reasons


def reasons(*where: str, **changes: object) -> list[str | None]:
    columns = {
        "video": ["a.mp4", "b.mp4", "c.mp4"],
        "caption": ["a cat", "a dog", None],
        "num_frames": [48, 48, 30],
        "fps": [24.0, 24.0, 30.0],
        "own_fps": [24.0, 1.0, 30.0],
        "height": [240, 480, 1080],
        "width": [426, 854, 1920],
        "motion": [0.1, 2.5, None],
        "quality": [0.5, 0.9, 0.9],
        "reason": [None, None, None],
    }
    schema = {"reason": pl.String, "motion": pl.Float64}
    clips = pl.DataFrame(columns | changes, schema_overrides=schema)
    return drop_reasons(clips, FiltersConfig(where=where), ("motion", "quality")).to_list()


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("motion > 0.2 and quality >= 0.4", [False, True, False]),
        ("quality between 0.4 and 0.6 or width = 1920", [True, False, True]),
        ("own_fps >= 12", [True, False, True]),
        ("seconds >= 2", [True, True, False]),
        ("short_side >= 480 and long_side < 1000", [False, True, False]),
        ("aspect_ratio > 1.7 and pixels > 200000", [False, True, True]),
        ("caption like '%cat%'", [True, False, False]),
        ("not (caption is null)", [True, True, False]),
    ],
)
def test_conditions_are_asked_of_columns(where: str, kept: list[bool]) -> None:
    assert [reason is None for reason in reasons(where)] == kept
    assert {reason for reason in reasons(where) if reason} == {f"not: {where}"}


def test_the_first_condition_that_is_not_met_is_the_reason() -> None:
    told = reasons("motion > 0.2", "quality > 0.6", num_frames=[48, 3, 48])
    assert told == ["not: motion > 0.2", "too_few_frames", "not: motion > 0.2"]


def test_clips_that_are_dropped_already_keep_their_reason() -> None:
    assert reasons("motion > 5", reason=["exact_duplicate", None, "no_caption"]) == [
        "exact_duplicate",
        "not: motion > 5",
        "no_caption",
    ]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("motoin > 1", "motoin"),
        ("motion >", "parse"),
        ("motion", "gives Float64"),
        ("motion > 'much'", ""),
        ("read_csv('/etc/passwd') is null", "read_csv"),
        ("motion > (select 1)", ""),
        ("cast(caption as int) > 3", "conversion"),
        ("date(caption) > date('2001-01-01')", ""),
        ("unnest(string_to_array(caption, ' ')) <> 'zz'", ""),
        ("motion > avg(motion)", "other clips"),
        ("count(*) > 1", ""),
        ("row_number() over (order by motion) > 1", "other clips"),
        (" and ".join(["motion > 0"] * 10_000), "at most 2000 are read"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_columns_that_can(where: str, told: str) -> None:
    config = PrepareDataConfig(filters=FiltersConfig(where=("quality > 0.1", where)))
    with pytest.raises(ConfigError, match=r"filters\.where") as caught:
        check_filters(config)
    assert told in str(caught.value)
    assert "quality" in str(caught.value.hint)
    assert "short_side" in str(caught.value.hint)


def test_what_only_some_clips_can_be_asked_is_told_by_its_condition() -> None:
    where = "case when num_frames > 40 then cast(caption as int) > 3 else true end"
    with pytest.raises(ConfigError, match="case when num_frames"):
        reasons("motion >= 0", where)


def test_a_score_that_is_not_measured_is_no_column() -> None:
    config = PrepareDataConfig(scores=("quality",), filters=FiltersConfig(where=("motion > 1",)))
    with pytest.raises(ConfigError, match="motion"):
        check_filters(config)


def test_conditions_survive_being_stored() -> None:
    config = PrepareDataConfig(filters=FiltersConfig(where=("motion > 1", "bars < 0.1")))
    assert PrepareDataConfig.model_validate_json(config.model_dump_json(), strict=True) == config
