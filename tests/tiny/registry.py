"""A registered model in the workspace's store and registry."""

from __future__ import annotations

from pathlib import Path

from tiny.models import bundle

from kinetoscope.core.settings import tracking_uri, workspace
from kinetoscope.inference.bundle import write_bundle
from kinetoscope.inference.manifest import MANIFEST, bundle_digest
from kinetoscope.storage.open import open_store
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.versions import ModelVersion, NewVersion


def new_version(scratch: Path, name: str = "toy", run: str = "one", fps: float = 8.0) -> NewVersion:
    """Write an untrained model into the store, as a run would; ``fps`` tells bundles apart."""
    store = open_store(workspace().store_uri)
    key = write_bundle(store, f"models/{name}", bundle(fps=fps), scratch)
    return NewVersion(
        name=name,
        bundle_key=key,
        bundle_digest=bundle_digest(store.get_bytes(f"{key}/{MANIFEST}")),
        tags={"run": run},
        scores={"a.b": 0.5},
    )


def register(new: NewVersion) -> ModelVersion:
    """Enter it in the workspace's registry."""
    registry = ModelRegistry(tracking_uri())
    return registry.register_version(new, open_store(workspace().store_uri))
