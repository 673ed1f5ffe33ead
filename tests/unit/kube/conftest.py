from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import kube_api
from tiny.kube_api import Api

from kinetoscope.kube.connection import Cluster


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def cluster(api: Api, tmp_path: Path) -> Iterator[Cluster]:
    with kube_api.serving(api, tmp_path) as cluster:
        yield cluster


@pytest.fixture
def empty(api: Api) -> Api:
    """A namespace with the chart's template and without jobs."""
    api.has(kube_api.TEMPLATES, kube_api.make_template())
    for path in (kube_api.JOBS, kube_api.PODS, kube_api.RUNTIMES, kube_api.TRAIN_JOBS):
        api.lists(path)
    made = {"metadata": {"creationTimestamp": kube_api.ago()}}
    api.has(kube_api.RUNTIMES, made, method="POST")
    api.has(kube_api.TRAIN_JOBS, kube_api.train_job(), method="POST")
    return api
