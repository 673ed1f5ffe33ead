"""The file of the named resolutions' sizes; read without numpy, which takes longer to import."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_TABLES = Path(__file__).with_name("aspect_ratios.json")


@cache
def resolution_tables() -> dict[str, Any]:
    """Return the table of each resolution: ``num_pixels``, and ``sizes`` by aspect ratio."""
    tables: dict[str, Any] = json.loads(_TABLES.read_text(encoding="utf-8"))["resolutions"]
    return tables
