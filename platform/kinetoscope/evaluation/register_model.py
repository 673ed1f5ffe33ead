"""The step register_model: a bundle in the object store, a version in the registry, promotion."""

from __future__ import annotations

import json

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.core.settings import tracking_uri, workspace
from kinetoscope.evaluation.config import RegisterConfig
from kinetoscope.evaluation.promotion import Decision, decide
from kinetoscope.evaluation.trained_model import trained_bundle
from kinetoscope.inference.bundle import write_bundle
from kinetoscope.inference.manifest import MANIFEST, bundle_digest
from kinetoscope.steps.worker import Outputs, StepContext, run_worker
from kinetoscope.storage.store import ObjectStore
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.tracker import Tracker
from kinetoscope.tracking.versions import ModelVersion, NewVersion

_TAG = "kinetoscope.dev"
_MODEL = "outputs/model/model.json"


def main(ctx: StepContext) -> Outputs | None:
    """Register the model; a repeated attempt finds the version of the first one."""
    if ctx.rank != 0:
        return None
    config = RegisterConfig.model_validate(ctx.config)
    bundle = trained_bundle(ctx.inputs, open_clips(ctx.inputs["clips"]), config)
    key = write_bundle(ctx.root_store, f"models/{config.model_name}", bundle, ctx.scratch)
    scores = {
        **ctx.inputs["vae_evaluation"].metrics,
        **ctx.inputs["dit_evaluation"].metrics,
    }
    ctx.superseded_check()
    uri = tracking_uri()
    new = NewVersion(
        name=config.model_name,
        bundle_key=key,
        bundle_digest=bundle_digest(ctx.root_store.get_bytes(f"{key}/{MANIFEST}")),
        tags=_lineage(ctx, bundle.spec.lineage),
        scores=scores,
        tracked_run=Tracker(uri, workspace().artifacts_path).find_run(ctx.run_id),
    )
    registry = ModelRegistry(uri)
    with registry.exclusive():
        version = registry.register_version(new, ctx.root_store)
        version, decision = _promote(registry, version, config, ctx.root_store)
    model = {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "bundle_key": version.bundle_key,
        "bundle_digest": version.bundle_digest,
        "promoted": decision.promote,
        "reason": decision.reason,
    }
    ctx.log.info("%s version %s: %s", version.name, version.version, decision.reason)
    ctx.store.put_bytes(_MODEL, json.dumps({**model, "scores": scores}, indent=1).encode())
    return Outputs(artifacts={"model": _MODEL}, summary=model)


def _promote(
    registry: ModelRegistry, version: ModelVersion, config: RegisterConfig, store: ObjectStore
) -> tuple[ModelVersion, Decision]:
    champion = registry.champion(version.name)
    if champion is not None and champion.version == version.version:
        return version, Decision(True, "an earlier attempt of this step promoted it")
    decision = decide(version.scores, champion.scores if champion else None, config)
    if decision.promote:
        version = registry.promote(version.ref, store)
    return version, decision


def _lineage(ctx: StepContext, parents: dict[str, str]) -> dict[str, str]:
    """Return where the model comes from, as tags of its version."""
    return {
        f"{_TAG}/run": ctx.run_id,
        f"{_TAG}/data-digest": parents["clips"],
        f"{_TAG}/parent.vae": parents["vae"],
        f"{_TAG}/parent.latents": parents["latents"],
        f"{_TAG}/parent.dit": parents["dit"],
        **{f"{_TAG}/{name}": value for name, value in ctx.origin.items() if value},
    }


if __name__ == "__main__":
    run_worker(main)
