"""Families ``aspect_tables``, ``bucket_helpers`` and ``bucket_ids``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.data.plan.aspect_tables import (
    NUM_FRAMES,
    named_resolution,
    parse_aspect_ratio,
    resolution_names,
)
from kinetoscope.parity.compare import CaseResult, attempt, exact_cases, failed, within
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.reference.aspect_ratios import ASPECT_RATIO_KEYS
from kinetoscope.parity.reference.buckets import (
    Probability,
    ReferenceBuckets,
    even_frame_size,
    first_fitting_length,
    nearest_ratio,
    nearest_resolution,
    nearest_smaller,
    reference_frame_size,
    reference_num_frames,
)

_RATIO_TOLERANCE = 1e-12
_RAISES = "raises"


def check_aspect_tables(golden: GoldenFile) -> Iterator[CaseResult]:
    """Check the names and the sizes of all tables, in their order."""
    ours: dict[str, Callable[[], object]] = {
        "aspect_ratio_map": lambda: list(ASPECT_RATIO_KEYS.items()),
        "aspect_ratios": lambda: {name: _table(name) for name in resolution_names()},
        "resolution_order": resolution_names,
        "num_frames_map": lambda: dict(NUM_FRAMES),
    }
    yield from _named_cases(ours, golden.data["out"])


def _table(name: str) -> dict[str, object]:
    table = named_resolution(name)
    return {"num_pixels": table.num_pixels, "table": list(table.sizes.items())}


def check_bucket_helpers(golden: GoldenFile) -> Iterator[CaseResult]:
    """Check every helper function on every list of arguments."""
    given, wanted = golden.data["in"], golden.data["out"]
    sizes = dict(given["hw_dict"]) if "hw_dict" in given else None
    helpers: dict[str, Callable[..., object]] = {
        "get_image_size": reference_frame_size,
        "get_num_pixels": lambda name: named_resolution(name).num_pixels,
        "get_num_frames": reference_num_frames,
        "get_closest_ratio": nearest_ratio,
        "get_h_w": even_frame_size,
        "find_approximate_hw": lambda pixels, *rest: nearest_resolution(pixels, sizes, *rest),
        "find_closet_smaller_bucket": first_fitting_length,
        "closet_smaller_bucket": nearest_smaller,
    }
    values = {name: wanted[name] for name in wanted if name != "get_ar"}
    ours = {
        name: lambda name=name: [_outcome(helpers[name], row) for row in given[name]]
        for name in helpers.keys() & given.keys()
    }
    yield from _named_cases(ours, {name: _outcomes(rows) for name, rows in values.items()})
    if "get_ar" in wanted:
        yield attempt("get_ar", lambda: _aspect_ratios(given["get_ar"], wanted["get_ar"]))


def _outcome(function: Callable[..., object], arguments: object) -> object:
    """Call with one argument, or with a list of them; say ``raises`` when it refuses."""
    try:
        return function(*arguments) if isinstance(arguments, list) else function(arguments)
    except (ValueError, TypeError, KinetoscopeError):
        return _RAISES


def _outcomes(rows: Sequence[object]) -> list[object]:
    return [_RAISES if isinstance(row, Mapping) and _RAISES in row else row for row in rows]


def _aspect_ratios(texts: Sequence[str], wanted: Sequence[float]) -> CaseResult:
    pairs = zip(texts, wanted, strict=True)
    errors = (abs(parse_aspect_ratio(text) - value) for text, value in pairs)
    return within("get_ar", errors, _RATIO_TOLERANCE, "absolute")


def check_bucket_ids(golden: GoldenFile) -> Iterator[CaseResult]:
    """Check the buckets' table and the bucket of every row."""
    given = golden.data["in"]
    buckets = ReferenceBuckets(_bucket_config(given["bucket_config"]))
    ours: dict[str, Callable[[], object]] = {
        "num_bucket": lambda: buckets.num_buckets,
        "bucket_id_order": lambda: {
            name: {str(frames): number for frames, number in lengths.items()}
            for name, lengths in buckets.numbers.items()
        },
        "bucket_id": lambda: _bucket_ids(buckets, given["sample_columns"], given["samples"]),
        "table_hw_t_ar_thw_prob_bs": lambda: [
            (*bucket, *entry) for bucket, entry in buckets.table().items()
        ],
    }
    wanted = {**golden.data["out"]}
    if isinstance(wanted.get("bucket_id"), list):
        wanted["bucket_id"] = _outcomes(wanted["bucket_id"])
    yield from _named_cases(ours, wanted)


def _bucket_config(
    config: Mapping[str, Mapping[str, Sequence[Any]]],
) -> dict[str, dict[int, tuple[Probability, int | None]]]:
    return {
        name: {
            int(frames): (tuple(probability) if isinstance(probability, list) else probability, bs)
            for frames, (probability, bs) in lengths.items()
        }
        for name, lengths in config.items()
    }


def _bucket_ids(
    buckets: ReferenceBuckets, columns: Sequence[str], samples: Sequence[Sequence[int]]
) -> list[object]:
    names = {"T": "num_frames", "H": "height", "W": "width"}
    arguments = [names.get(column, column) for column in columns]

    def bucket_of(*row: int) -> object:
        return buckets.bucket_of(**dict(zip(arguments, row, strict=True)))

    return [_outcome(bucket_of, list(row)) for row in samples]


def _named_cases(
    ours: Mapping[str, Callable[[], object]], wanted: Mapping[str, object]
) -> Iterator[CaseResult]:
    """Compare what the file has by our values of these names; an unknown name is a failure."""
    for name, value in wanted.items():
        if name in ours:
            yield from exact_cases([(name, ours[name], value)])
        else:
            yield failed(name, f"unknown output {name!r}; known: {', '.join(ours)}")
