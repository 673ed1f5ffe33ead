"""Finds the scorers: each module of this folder that has a `SCORER`, under the module's name."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

# The package as a whole: the version of the code that imports it counts all its modules.
import kinetoscope.data.scorers as room
from kinetoscope.data.scorers.names import score_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kinetoscope.data.scorers.base import Scorer


@cache
def scorer_types() -> Mapping[str, type[Scorer]]:
    """Return the scorers by name."""
    modules = {name: importlib.import_module(f"{room.__name__}.{name}") for name in score_names()}
    return {name: module.SCORER for name, module in modules.items()}
