"""A nested config as MLflow's flat, bounded parameters."""

from __future__ import annotations

from typing import Any

from kinetoscope.core.hashing import canonical_json

MAX_VALUE_CHARS = 6000
"""MLflow's limit on a parameter's value."""

_CUT = "... (cut)"


def flatten_params(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return ``{"a.b": "1"}`` for ``{"a": {"b": 1}}``; lists become JSON, long values are cut."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat.update(flatten_params(value, f"{name}."))
        else:
            text = value if isinstance(value, str) else canonical_json(value)
            if len(text) > MAX_VALUE_CHARS:
                text = text[: MAX_VALUE_CHARS - len(_CUT)] + _CUT
            flat[name] = text
    return flat
