"""Measure what the platform adds to a run: its pods started by Kubeflow, and the same by hand.

One run of the recipe `smoke` is submitted with ``kino run --on cluster``; then a run of another
seed does the same work in pods of the same image, variables, volumes and resources, one after the
other, each made as soon as the one before has ended, training in its pod instead of in a TrainJob.
``overhead.first_step_seconds`` is how much later the first training step is done, from the command
on; ``overhead.per_step_seconds`` how much longer a step of the pipeline takes. Needs the cluster
and the variables of ``make test-kubeflow`` (docs/cluster.md), with nothing else at work on it. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "deploy"))

import installed
from tiny.cluster_run import RUN_STEP
from tiny.kubeflow import STAGE, Lab, overrides

from kinetoscope.config.load import LoadedConfig, load_config
from kinetoscope.config.run import RunConfig
from kinetoscope.core.settings import workspace
from kinetoscope.pipelines.local import create_run
from kinetoscope.runs.record_types import Start
from kinetoscope.runs.records import Run
from kinetoscope.runs.steps import planned_steps
from kinetoscope.runs.view import step_row
from kinetoscope.steps.process_identity import ProcessIdentity

NUM_STEPS = 40
# Of a step that runs models: the image with packages, a GPU.
_PATTERN = "evaluate_vae"
_OURS = ("KINO_", "MLFLOW_", "HOME")


@dataclass(frozen=True)
class Times:
    """Seconds from the beginning to the first training step, and to the end."""

    first_step: float
    total: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10**6, help="of the runs")
    seed: int = parser.parse_args(arguments).seed
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        lab = Lab(installed.given("KINO_TEST_PIPELINES_NAMESPACE", "of Pipelines"), Path(folder))
        lab.install(installed.given("KINO_TEST_TRAINER_TAG", "of our images"))
        try:
            lab.settle()
            os.environ.update(lab.variables)
            with lab.forwarding():
                told = _compare(lab, seed)
        finally:
            lab.release.uninstall()
    print(json.dumps(told))
    return 0


def _compare(lab: Lab, seed: int) -> dict[str, float]:
    lab.uploaded()  # neither of the two is to wait for that
    platform, pattern = _through_kubeflow(lab, seed)
    print(f"by Kubeflow: {platform}", flush=True)
    config = _config(seed + 1)
    by_hand = _by_hand(lab, config, pattern)
    print(f"by hand: {by_hand}", flush=True)
    steps = len(planned_steps(config.config))
    return {
        "overhead.first_step_seconds": round(platform.first_step - by_hand.first_step, 1),
        "overhead.per_step_seconds": round((platform.total - by_hand.total) / steps, 1),
        "overhead.first_step_ratio": round(platform.first_step / by_hand.first_step, 2),
        "overhead.total_ratio": round(platform.total / by_hand.total, 2),
        "overhead.steps": steps,
        "overhead.cores": os.cpu_count() or 0,
    }


def _config(seed: int) -> LoadedConfig:
    return load_config("smoke", overrides(seed, NUM_STEPS)[1::2])


def _through_kubeflow(lab: Lab, seed: int) -> tuple[Times, dict[str, Any]]:
    """Return how long a run took, and the pod of one of its steps."""
    began = time.monotonic()
    submitted = lab.submit(seed, NUM_STEPS)
    run = lab.records(submitted.run)
    lab.wait_for(lambda: run.exists() and _trains(run), "the first training step")
    first_step = time.monotonic() - began
    state = lab.wait_for_end(submitted.job)
    total = time.monotonic() - began
    if state != "SUCCEEDED":
        raise SystemExit(f"Kubeflow's run ended {state}:\n{lab.told()}")
    pods = lab.task_pods(submitted.job)
    stage = "kinetoscope.dev/stage"
    pattern = next(pod for pod in pods if pod["metadata"]["labels"].get(stage) == _PATTERN)
    return Times(first_step, total), pattern


def _by_hand(lab: Lab, loaded: LoadedConfig, pattern: dict[str, Any]) -> Times:
    began = time.monotonic()
    run = create_run(loaded, lab.uploaded(), workspace())
    run.begin(Start(process=ProcessIdentity.of(), started_at=time.time()), after=0)
    config: RunConfig = loaded.config
    first_step = 0.0

    def look() -> None:
        nonlocal first_step
        if not first_step and _trains(run):
            first_step = time.monotonic() - began

    for step in planned_steps(config):
        inputs = {key: _uri(run, name) for key, name in step.inputs.items()}
        _run_pod(lab, _pod(pattern, run, step.name, inputs), look)
    return Times(first_step, time.monotonic() - began)


def _pod(pattern: dict[str, Any], run: Run, name: str, inputs: dict[str, str]) -> dict[str, Any]:
    """Return a pod that does a step, like the one that Kubeflow made of another step."""
    given = pattern["spec"]
    main = next(one for one in given["containers"] if one["name"] == "main")
    mounted = {
        volume["name"]: volume
        for volume in given["volumes"]
        if not volume["name"].startswith(("kube-api-access", "argo", "var-run-argo", "tmp-dir"))
    }
    mounts = [mount for mount in main["volumeMounts"] if mount["name"] in mounted]
    env = [one for one in main["env"] if one["name"].startswith(_OURS)]
    container = {
        "name": "main",
        "image": main["image"],
        "command": ["python", "-c", RUN_STEP, run.uri, name, json.dumps(inputs)],
        "env": env,
        "resources": main["resources"],
        "securityContext": main["securityContext"],
        "volumeMounts": mounts,
    }
    used = {mount["name"] for mount in mounts}
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "nodeSelector": given.get("nodeSelector", {}),
        "securityContext": given["securityContext"],
        "containers": [container],
        "volumes": [volume for key, volume in mounted.items() if key in used],
    }
    metadata = {
        "name": f"{run.run_id}-{name.replace('_', '-')}",
        "namespace": pattern["metadata"]["namespace"],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _run_pod(lab: Lab, pod: dict[str, Any], look: Callable[[], None]) -> None:
    name, where = pod["metadata"]["name"], ("-n", lab.namespace)
    installed.apply(pod)
    phase = ""
    while phase not in ("Succeeded", "Failed"):
        look()
        phase = installed.kubectl("get", "pod", name, *where, "-o", "jsonpath={.status.phase}")
        time.sleep(0.2)
    if phase == "Failed":
        raise SystemExit(installed.kubectl("logs", name, *where))
    installed.kubectl("delete", "pod", name, *where, "--wait=false")


def _trains(run: Run) -> bool:
    return bool(step_row(run, STAGE)["progress"]["done"])


def _uri(run: Run, name: str) -> str:
    record = run.step(name)
    assert record is not None, f"{name} was not begun"
    return run.step_uri(record)


if __name__ == "__main__":
    sys.exit(main())
