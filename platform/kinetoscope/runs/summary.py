"""What a run made, as plain values: what `kino show` tells."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from kinetoscope.artifacts.files import read_artifact
from kinetoscope.core.uris import file_path
from kinetoscope.runs.records import Run
from kinetoscope.runs.view import run_status, step_results
from kinetoscope.steps.contract import StepResult
from kinetoscope.storage.open import open_store
from kinetoscope.tracking.mirrored_aliases import read_aliases


def run_summary(run: Run) -> dict[str, Any]:
    """Return what a finished run made: steps, model, sample, report, clips, quarantine, scores."""
    results = step_results(run)
    scores: dict[str, float] = {}
    for name in ("evaluate_vae", "evaluate_dit"):
        if name in results:
            scores |= results[name].metrics
    start = run.latest_start()
    return {
        **run_status(run),
        "model": _model(run, results.get("register_model")),
        "sample": _output(results.get("evaluate_dit"), "samples", "sample.mp4"),
        "report": uri_to_path(f"{run.uri}/{start.report_key}") if start.has_report() else None,
        "clips": _output(results.get("evaluate_dit"), "samples", "clips.jsonl"),
        "quarantine": _quarantine(results.get("prepare_data")),
        "quarantine_file": _quarantine_file(results.get("prepare_data")),
        "scores": scores,
    }


def uri_to_path(uri: str) -> str:
    """Return what a person can open: the path of a ``file:`` URI, an S3 URI as S3 tools read it."""
    if uri.startswith("s3:"):
        return unquote(uri)
    path = file_path(uri)
    return uri if path is None else str(path)


def _output(result: StepResult | None, artifact: str, name: str) -> str | None:
    if result is None or artifact not in result.artifacts:
        return None
    uri = result.artifact_uri(artifact)
    return uri_to_path(f"{uri}/{name}") if open_store(uri).stat(name) else None


def _quarantine(result: StepResult | None) -> list[dict[str, Any]]:
    if result is None:
        return []
    (data,) = read_artifact(result, "quarantine").values()
    return [json.loads(line) for line in data.splitlines()]


def _quarantine_file(result: StepResult | None) -> str | None:
    return uri_to_path(result.artifact_uri("quarantine")) if result else None


def _model(run: Run, result: StepResult | None) -> dict[str, Any] | None:
    """Return the registered version with the aliases that it had when they were last mirrored.

    ``aliases_at`` tells when that was; None is when the version was registered.
    """
    if result is None:
        return None
    name, version, key = (str(result.summary[k]) for k in ("name", "version", "bundle_key"))
    told: dict[str, Any] = {"name": name, "version": version, "bundle_key": key}
    mirrored = read_aliases(open_store(run.root_uri), name)
    if mirrored is None:
        return {**told, "aliases": list(result.summary["aliases"]), "aliases_at": None}
    told["aliases_at"] = mirrored.mirrored_at
    aliases = mirrored.of_version(version, key)
    if aliases is None:
        return {**told, "aliases": [], "deleted": True}
    return {**told, "aliases": list(aliases)}
