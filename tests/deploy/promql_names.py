"""Names of the series in a PromQL expression, and of those that our code and others serve."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kinetoscope.telemetry.step_metrics import DataMetrics
from kinetoscope.telemetry.training_metrics import TrainingMetrics

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_NOT_NAMES = re.compile(
    r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
)
_NAME = re.compile(r"(?<![\w:$])[a-zA-Z_:][\w:]*(?!\w)(?!\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"}
_WORDS |= {"group_left", "group_right"}

# Series of others: kube-state-metrics, dcgm-exporter, Prometheus itself.
_FOREIGN = re.compile(r"kube_pod_\w+|DCGM_FI_\w+|up|ALERTS")

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def series_names(expression: str) -> set[str]:
    """Return the names of the series that an expression reads."""
    bare = _NOT_NAMES.sub(" ", _TEXT.sub('""', expression))
    return set(_NAME.findall(bare)) - _WORDS


def registered_names() -> set[str]:
    """Return the names of all series that our code registers."""
    return {name for kind in (TrainingMetrics, DataMetrics) for name in _of(kind)}


def unknown_names(expression: str, recorded: set[str]) -> set[str]:
    """Return the names that neither our code registers, nor a rule records, nor others serve."""
    known = registered_names() | recorded
    return {name for name in series_names(expression) - known if not _FOREIGN.fullmatch(name)}


def _of(kind: type[TrainingMetrics | DataMetrics]) -> Iterator[str]:
    for family in kind("r", "s").registry.collect():
        for suffix in _SUFFIXES.get(family.type, ("",)):
            yield family.name + suffix
