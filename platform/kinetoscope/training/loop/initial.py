"""Initial weights that depend on a key alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from kinetoscope.core.keys import random_key

Module = TypeVar("Module", bound=nn.Module)


def initialised(build: Callable[[], Module], *key: int | str) -> Module:
    """Build a module whose random initial weights depend on the key alone.

    Args:
        build: makes the module, drawing from torch's global generator.
        key: parts of the random key.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_key("init", *key))
        return build()
