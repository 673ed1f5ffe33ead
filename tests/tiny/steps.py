"""Steps to run, and records as finished steps leave them; free of torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kinetoscope.steps.contract import (
    RESULT_KEY,
    STEPS,
    Artifact,
    RuntimeConfig,
    StepResult,
    StepSpec,
    VideosInput,
    artifact_digest,
    split_step_uri,
    write_spec,
)
from kinetoscope.storage.keys import split_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

ROOT = Path(__file__).resolve().parents[2]


def ranks(count: int) -> RuntimeConfig:
    """Return how to run that many ranks of one thread, without a second try."""
    return RuntimeConfig(num_processes=count, threads_per_process=1, max_restarts=0)


def step_spec(
    name: str, worker: str, root_uri: str, config: dict[str, Any], **changes: Any
) -> StepSpec:
    """Return a step of run ``raaaaaaa``; it lives at ``steps/<name>/0``.

    ``inputs`` are URIs in the same store, by name; the videos lie in ``videos`` beside it.
    """
    values: dict[str, Any] = {"run_id": "raaaaaaa", "seed": 5, "fingerprint": "0"}
    values |= {"videos": VideosInput(place="../videos")} | changes
    given = {name: split_uri(uri, STEPS) for name, uri in values.pop("inputs", {}).items()}
    assert {root for root, _ in given.values()} <= {root_uri}
    inputs = {name: key for name, (_, key) in given.items()}
    return StepSpec(
        name=name, worker=worker, root_uri=root_uri, config=config, inputs=inputs, **values
    )


def place_worker(folder: Path, patch: pytest.MonkeyPatch, name: str, code: str) -> None:
    """Write a module of a worker, which supervisors find, and give them a workspace beside it."""
    (folder / f"{name}.py").write_text(code)
    paths = [folder, ROOT / "platform", ROOT / "components"]
    patch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    patch.setenv("KINO_WORKSPACE", str(folder / "workspace"))


def start_supervisor(spec: StepSpec) -> subprocess.Popen[bytes]:
    """Write the run's spec beside the step; start the supervisor, in a session of its own."""
    command = [sys.executable, "-m", "kinetoscope.steps.supervisor", write_spec(spec)]
    return subprocess.Popen(command, start_new_session=True)


def commit(
    uri: str, artifacts: dict[str, str], metrics: dict[str, float] | None = None, **details: Any
) -> None:
    """Commit a result as the step at ``.../<step>/<fingerprint>`` would; artifacts name keys."""
    store = open_store(uri)
    step, fingerprint = split_step_uri(uri)
    described = {name: _artifact(store, key) for name, key in artifacts.items()}
    result = StepResult(
        step=step,
        fingerprint=fingerprint,
        generation=1,
        artifacts=described,
        metrics=metrics or {},
        **details,
    )
    store.put_bytes(RESULT_KEY, result.to_bytes())


def _artifact(store: ObjectStore, key: str) -> Artifact:
    stats = store.list(key)
    digests = {stat.key: store.digest(stat.key) for stat in stats}
    size_bytes = sum(stat.size_bytes for stat in stats)
    return Artifact(key=key, digest=artifact_digest(key, digests), size_bytes=size_bytes)
