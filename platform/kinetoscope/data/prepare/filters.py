"""Which clips are worth training on.

Conditions are SQL over a clip's columns: ``num_frames``, ``fps``, ``own_fps`` (of its video),
``seconds``, ``height``, ``width``, ``short_side``, ``long_side``, ``pixels``, ``aspect_ratio``
(width over height), ``video``, ``caption``, and each score by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from kinetoscope.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kinetoscope.data.config import FiltersConfig, PrepareDataConfig

_SLICE_ROWS = 1 << 20
_WHOLE = ("num_frames", "height", "width")
_MEASURED = ("fps", "own_fps")
_TEXTS = ("video", "caption")
_DERIVED = {
    "seconds": pl.col("num_frames") / pl.col("fps"),
    "short_side": pl.min_horizontal("height", "width"),
    "long_side": pl.max_horizontal("height", "width"),
    "pixels": pl.col("height") * pl.col("width"),
    "aspect_ratio": pl.col("width") / pl.col("height"),
}


def drop_reasons(clips: pl.DataFrame, filters: FiltersConfig, scores: Iterable[str]) -> pl.Series:
    """Return the first filter that each clip fails; null where it passes all.

    Args:
        clips: a row a clip; those that have a ``reason`` keep it.
        filters: to pass.
        scores: names of the columns that are scores.
    """
    # Nothing that is not true is met: a score that is missing meets no condition.
    met = {f"not: {where}": pl.sql_expr(where).fill_null(False) for where in filters.where}
    most = filters.max_frames
    failed = {
        "too_few_frames": pl.col("num_frames") < filters.min_frames,
        "too_many_frames": pl.lit(False) if most is None else pl.col("num_frames") > most,
        "too_small": pl.min_horizontal("height", "width") < filters.min_side_px,
        **{reason: ~condition for reason, condition in met.items()},
    }
    reason = pl.coalesce(
        pl.col("reason"),
        *(pl.when(condition).then(pl.lit(name)) for name, condition in failed.items()),
    )
    columns = clips.select([*_WHOLE, *_MEASURED, *_TEXTS, *scores, "reason"])
    # Slices, so that what is derived takes little memory.
    parts = [
        part.with_columns(**_DERIVED).select(reason.alias("reason"))["reason"]
        for part in columns.iter_slices(_SLICE_ROWS)
    ]
    return pl.concat(parts) if parts else columns["reason"]


def check_filters(config: PrepareDataConfig) -> None:
    """Refuse conditions that can't be asked of a clip.

    Raises:
        ConfigError: names the condition, what is wrong with it, and the columns that there are.
    """
    schema = {
        **dict.fromkeys((*_WHOLE, "pixels", "short_side", "long_side"), pl.Int64),
        **dict.fromkeys((*_MEASURED, "seconds", "aspect_ratio", *config.measured), pl.Float64),
        **dict.fromkeys(_TEXTS, pl.String),
    }
    nothing = pl.DataFrame(schema=schema)
    for where in config.filters.where:
        try:
            found = nothing.select(pl.sql_expr(where).alias("met"))["met"].dtype
        except pl.exceptions.PolarsError as error:
            raise _refused(where, str(error).splitlines()[0], schema) from error
        if found != pl.Boolean:
            raise _refused(where, f"it gives {found}, not true or false", schema)


def _refused(where: str, why: str, columns: Iterable[str]) -> ConfigError:
    return ConfigError(
        f"prepare_data.filters.where: {where!r} can't be asked of a clip: {why}",
        hint=f"e.g. 'motion > 0.2 and quality >= 0.4'; columns: {', '.join(sorted(columns))}",
    )
