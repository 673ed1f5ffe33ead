"""The objects of an artifact, as they were committed."""

from __future__ import annotations

from contextlib import AbstractContextManager

from kinetoscope.core.errors import CorruptError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.steps.contract import StepResult, artifact_digest, make_again
from kinetoscope.storage.open import open_store
from kinetoscope.storage.records import damage_hint, shown_name


def read_artifact(result: StepResult, name: str) -> dict[str, bytes]:
    """Return the content of a small artifact's objects, by the names that people call them.

    Latents and checkpoints are large, and hold the digests of their parts themselves.

    Raises:
        NotFoundError: the step has no such artifact.
        CorruptError: an object was changed, added or removed since.
    """
    artifact = result.artifact(name)
    store = open_store(result.uri)
    content = {stat.key: store.get_bytes(stat.key) for stat in store.list(artifact.key)}
    digests = {key: digest_bytes(data) for key, data in content.items()}
    if artifact_digest(artifact.key, digests) != artifact.digest:
        name = shown_name(store, artifact.key)
        raise CorruptError(
            f"{name} is not what step {result.step} committed", hint=make_again(result.step)
        )
    return {shown_name(store, key): data for key, data in content.items()}


def mendable(result: StepResult) -> AbstractContextManager[None]:
    """Add to an error about damage how the step is made again."""
    return damage_hint(make_again(result.step))
