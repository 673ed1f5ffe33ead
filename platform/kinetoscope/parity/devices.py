"""The device that golden files are checked on, and how exact its products are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kinetoscope.core.errors import ConfigError


def usable_device(name: str) -> torch.device:
    """Return the device of this name.

    Raises:
        ConfigError: there is no such device here, or it holds no values (``meta``).
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (AssertionError, ImportError, NotImplementedError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"device {name!r} can't be used here: {reason}",
            hint="cpu is always there; cuda needs an NVIDIA GPU and a torch that is built for it",
        ) from error
    return device


@contextmanager
def exact_products() -> Iterator[None]:
    """Keep TF32, whose products have 10 bits, out of matrix products and convolutions."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = False
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
