"""Read a running step's metrics."""

from __future__ import annotations

from http.client import HTTPException
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from kinetoscope.core.errors import KinetoscopeError

# The same on every series of a step.
_COMMON_LABELS = frozenset({"run", "stage"})


def scrape(url: str, *, timeout_seconds: float = 2.0) -> dict[str, float]:
    """Return the values that a metrics URL serves.

    Args:
        url: as ``StepMetrics.serve`` returned it.
        timeout_seconds: for connecting and for each read.

    Returns:
        Values by series, without the labels ``run`` and ``stage``: ``kino_train_grad_norm``,
        ``kino_train_loss{kind="total"}``.

    Raises:
        KinetoscopeError: nothing answers there (the process has ended), or something else does.
    """
    if not url.startswith("http://"):
        raise KinetoscopeError(f"{url!r} is no metrics URL")
    try:
        with urlopen(url, timeout=timeout_seconds) as response:  # noqa: S310  # checked above
            return parse_metrics(response.read().decode())
    except (OSError, HTTPException, ValueError) as error:
        raise KinetoscopeError(f"no metrics from {url}: {error}") from error


def parse_metrics(text: str) -> dict[str, float]:
    """Return the values of Prometheus' text format, by series as in ``scrape``."""
    values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            own = sorted(set(sample.labels) - _COMMON_LABELS)
            labels = ",".join(f'{name}="{sample.labels[name]}"' for name in own)
            values[f"{sample.name}{{{labels}}}" if labels else sample.name] = float(sample.value)
    return values
