"""What the tests on a real cluster share: the cluster of KUBECONFIG, namespaces of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

import installed
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.kube.connection import Cluster


@pytest.fixture(autouse=True)
def _allow_sockets(socket_enabled: None) -> None:
    """The cluster may be anywhere."""


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster of KUBECONFIG's current context."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set: there is no cluster to test on")
    from pytest_socket import enable_socket

    from kinetoscope.kube.connection import connect
    from kinetoscope.kube.profiles import Profile

    enable_socket()
    connected = connect(Profile(name="tests"))
    connected.version()
    return connected


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace that enforces PodSecurity `restricted`; deleted afterwards."""
    name = f"kino-test-{uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.core.create_namespace({"metadata": {"name": name, "labels": labels}})
    yield name
    cluster.core.delete_namespace(name)


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Iterator[installed.Release]:
    """The chart, installed with an external object store; for tests that leave it as it was."""
    images = installed.image_values()
    name = installed.make_namespace("kino-release")
    try:
        release = installed.Release("kinetoscope", name)
        release.install(
            {
                "images": images,
                "runNamespaces": [{"name": name, "serviceAccount": installed.RUNNER}],
                "objectStore": installed.external_store_values(name, prefix=name),
                "mlflow": {"persistence": {"size": "1Gi"}},
                "training": installed.training_values(name),
            }
        )
        yield release
        release.uninstall()
    finally:
        installed.delete_namespace(name)
