"""Steps to run, and records as finished steps leave them; free of torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from kinetoscope.steps.contract import RESULT_KEY, Artifact, RuntimeConfig, StepResult, StepSpec
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store


def ranks(count: int) -> RuntimeConfig:
    """Return how to run that many ranks of one thread, without a second try."""
    return RuntimeConfig(num_processes=count, threads_per_process=1, max_restarts=0)


def step_spec(
    name: str, worker: str, root_uri: str, config: dict[str, Any], **changes: Any
) -> StepSpec:
    """Return a step without inputs, of run ``raaaaaaa``; it lives at ``steps/<name>/0``."""
    values: dict[str, Any] = {"run_id": "raaaaaaa", "seed": 5, "inputs": {}, "fingerprint": "0"}
    return StepSpec(name=name, worker=worker, root_uri=root_uri, config=config, **values | changes)


def start_supervisor(spec: StepSpec) -> subprocess.Popen[bytes]:
    """Write the run's spec beside the step; start the supervisor, in a session of its own."""
    key = f"specs/{spec.run_id}.json"
    open_store(spec.uri).put_bytes(key, spec.to_bytes())
    command = [sys.executable, "-m", "kinetoscope.steps.supervisor", join_uri(spec.uri, key)]
    return subprocess.Popen(command, start_new_session=True)


def commit(
    uri: str, artifacts: dict[str, str], metrics: dict[str, float] | None = None, **details: Any
) -> None:
    """Commit a result as the step at ``.../<step>/<fingerprint>`` would; artifacts name keys."""
    store = open_store(uri)
    step, fingerprint = uri.split("/")[-2:]
    described = {
        name: Artifact(uri=join_uri(store.uri, key), digest=f"sha256:{key}", size_bytes=1)
        for name, key in artifacts.items()
    }
    result = StepResult(
        step=step,
        fingerprint=fingerprint,
        generation=1,
        uri=store.uri,
        artifacts=described,
        metrics=metrics or {},
        **details,
    )
    store.put_bytes(RESULT_KEY, result.to_bytes())
