"""A tiny bundle of real models with seeded weights."""

from __future__ import annotations

import pytest
from tiny import models

from kinetoscope.inference.bundle import Bundle


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return models.bundle(scores={"motion": 2.5}, lineage={"vae": "sha256:1"})
