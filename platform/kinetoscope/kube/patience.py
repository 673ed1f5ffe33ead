"""Calls that are made again while the API or a webhook is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from kinetoscope.kube.api_errors import ApiError, UnreachableError

PATIENCE_SECONDS = 60.0
"""Controllers act again about 35 s after an outage of the API server."""

_PAUSE_SECONDS = 1.0
# https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Status
_PASSING = frozenset({429, 500, 502, 503, 504})

T = TypeVar("T")


def patiently(call: Callable[[], T]) -> T:
    """Call until it succeeds, for a minute; the call must be one that may be repeated.

    Raises:
        ApiError: at once when it would not pass by itself, else after the minute.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except ApiError as error:
            if not passes(error) or time.monotonic() >= end:
                raise
        time.sleep(_PAUSE_SECONDS)


def passes(error: ApiError) -> bool:
    """Tell whether what was refused may be granted in a moment, without anybody's doing."""
    return isinstance(error, UnreachableError) or error.status in _PASSING
