"""The latents that encode_latents committed."""

from __future__ import annotations

from kinetoscope.artifacts.files import mendable
from kinetoscope.core.units import MIB
from kinetoscope.data.latents.format import LatentIndex
from kinetoscope.data.latents.reader import LatentReader, read_index
from kinetoscope.steps.contract import StepResult
from kinetoscope.storage.open import open_store


def open_latents(encoded: StepResult, *, cache_mib: int = 512) -> LatentReader:
    """Return a reader of the latents, which verifies each shard; errors as in `read_index`."""
    store = open_store(encoded.artifact_uri("latents"))
    with mendable(encoded):
        return LatentReader(store, cache_bytes=cache_mib * MIB)


def open_latent_index(encoded: StepResult) -> LatentIndex:
    """Return what the latents are, and their normalisation; errors as in `read_index`."""
    with mendable(encoded):
        return read_index(open_store(encoded.artifact_uri("latents")))
