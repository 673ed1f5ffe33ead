"""Which clips are worth training on.

Conditions are SQL over a clip's columns: ``num_frames``, ``fps``, ``own_fps`` (of its video),
``seconds``, ``height``, ``width``, ``short_side``, ``long_side``, ``pixels``, ``aspect_ratio``
(width over height), ``video``, ``caption``, and each score by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from kinetoscope.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kinetoscope.data.config import FiltersConfig, PrepareDataConfig

_SLICE_ROWS = 1 << 20
# Very long conditions overflow the parser's stack.
_LONGEST, _SHOWN = 2000, 200
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

    Raises:
        ConfigError: names a condition that can't be asked of these clips.
    """
    # Nothing that is not true is met: a score that is missing meets no condition.
    met = {where: pl.sql_expr(where).fill_null(False) for where in filters.where}
    most = filters.max_frames
    failed = {
        "too_few_frames": pl.col("num_frames") < filters.min_frames,
        "too_many_frames": pl.lit(False) if most is None else pl.col("num_frames") > most,
        "too_small": pl.min_horizontal("height", "width") < filters.min_side_px,
        **{f"not: {where}": ~condition for where, condition in met.items()},
    }
    reason = pl.coalesce(
        pl.col("reason"),
        *(pl.when(condition).then(pl.lit(name)) for name, condition in failed.items()),
    )
    columns = clips.select([*_WHOLE, *_MEASURED, *_TEXTS, *scores, "reason"])
    # Slices, so that what is derived takes little memory.
    parts = [_reasons(part, reason, filters) for part in columns.iter_slices(_SLICE_ROWS)]
    return pl.concat(parts) if parts else columns["reason"]


def _reasons(clips: pl.DataFrame, reason: pl.Expr, filters: FiltersConfig) -> pl.Series:
    clips = clips.with_columns(**_DERIVED)
    try:
        return clips.select(reason.alias("reason"))["reason"]
    except pl.exceptions.PolarsError as error:
        for where in filters.where:
            _asked(clips, where)
        raise ConfigError(f"prepare_data.filters can't be asked of these clips: {error}") from error


def check_filters(config: PrepareDataConfig) -> None:
    """Refuse conditions that can't be asked of each clip by itself.

    Raises:
        ConfigError: names the condition, what is wrong with it, and the columns that there are.
    """
    clips = _examples(config.measured)
    for where in config.filters.where:
        if len(where) > _LONGEST:
            why = f"it has {len(where)} characters, at most {_LONGEST} are read: make several of it"
            raise _refused(where, why, clips.columns)
        whole = _asked(clips, where)
        if whole.dtype != pl.Boolean:
            raise _refused(where, f"it gives {whole.dtype}, not true or false", clips.columns)
        alone = [_asked(clips[row : row + 1], where).to_list() for row in range(len(clips))]
        if [[met] for met in whole.to_list()] != alone:
            why = "it depends on other clips, or gives several values for one"
            raise _refused(where, why, clips.columns)


def _asked(clips: pl.DataFrame, where: str) -> pl.Series:
    """Return what a condition gives for clips; raises ``ConfigError`` where it can't be asked."""
    try:
        return clips.select(pl.sql_expr(where).alias("met"))["met"]
    except pl.exceptions.PolarsError as error:
        raise _refused(where, str(error).splitlines()[0], clips.columns) from error


def _examples(scores: Iterable[str]) -> pl.DataFrame:
    """Return clips unlike each other, to try conditions on."""
    whole, measured = [pl.Series([1, 20, 300]), pl.Series([40, 2, 7])], [0.25, 7.5, 30.0]
    columns: dict[str, Any] = {name: whole[n % 2] for n, name in enumerate(_WHOLE)}
    columns |= {name: measured[n % 3 :] + measured[: n % 3] for n, name in enumerate(_MEASURED)}
    columns |= {name: measured[n % 3 :] + measured[: n % 3] for n, name in enumerate(scores)}
    columns |= {"video": ["a/1.mp4", "b.mov", "c"], "caption": ["a cat runs", "", "2"]}
    return pl.DataFrame(columns).with_columns(**_DERIVED)


def _refused(where: str, why: str, columns: Iterable[str]) -> ConfigError:
    shown = where if len(where) <= _SHOWN else f"{where[:_SHOWN]}..."
    return ConfigError(
        f"prepare_data.filters.where: {shown!r} can't be asked of a clip: {why}",
        hint=f"e.g. 'motion > 0.2 and quality >= 0.4'; columns: {', '.join(sorted(columns))}",
    )
