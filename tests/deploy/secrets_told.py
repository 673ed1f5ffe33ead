"""Where on a cluster, and in what is kept of a run, the value of a secret can be read."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import installed

from kinetoscope.storage.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tiny.kubeflow import Lab, Submitted

_KINDS = "pods,workflows,trainjobs,trainingruntimes,jobsets,configmaps,events,services,deployments"


def words_of_secret() -> list[str]:
    """Return the store's secret key, plain and in base64."""
    key = installed.given("KINO_TEST_S3_SECRET_KEY", "the secret key of the store")
    return [key, base64.b64encode(key.encode()).decode()]


def places_in(texts: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names of the texts in which the secret key stands."""
    words = words_of_secret()
    return [name for name, text in texts if any(word in text for word in words)]


def places_of_secret(lab: Lab, submitted: Submitted) -> list[str]:
    """Return every place but its Secret where the store's secret key stands, plain or base64."""
    return places_in(_texts(lab, submitted))


def _texts(lab: Lab, submitted: Submitted) -> Iterator[tuple[str, str]]:
    for kind in _KINDS.split(","):
        for item in installed.items(kind, lab.namespace):
            yield f"{kind}/{item['metadata']['name']}", json.dumps(item)
    for pod in lab.task_pods(submitted.job):
        name = pod["metadata"]["name"]
        logs = installed.run("kubectl", "logs", name, "-n", lab.namespace, "--all-containers")
        yield f"log of {name}", logs.stdout
    yield "Kubeflow's run", json.dumps(lab.api("GET", f"runs/{submitted.job}"))
    store = open_store(lab.variables["KINO_STORE_URI"])
    for stat in store.list(f"runs/{submitted.run}"):
        yield stat.key, store.get_bytes(stat.key).decode(errors="replace")
    bucket = open_store(f"s3://{os.environ['KINO_TEST_S3_BUCKET']}/v2/artifacts")
    for stat in bucket.list(""):
        if submitted.job in stat.key:
            yield stat.key, bucket.get_bytes(stat.key).decode(errors="replace")
    from mlflow import MlflowClient

    client = MlflowClient(lab.variables["MLFLOW_TRACKING_URI"])
    experiments = [one.experiment_id for one in client.search_experiments()]
    for tracked in client.search_runs(experiments):
        yield f"MLflow's run {tracked.info.run_id}", json.dumps(tracked.to_dictionary())
