"""What the tests on a real cluster share: the cluster of KUBECONFIG, namespaces of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

import installed
import pytest
from tiny.cluster_run import STEP, ClusterRun, Outer, begin_run, environment, run_here
from tiny.kubeflow import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kinetoscope.kube.connection import Cluster
    from kinetoscope.steps.contract import StepSpec


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


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("launched")


@pytest.fixture
def outer(release: installed.Release, training_folder: Path) -> Iterator[Outer]:
    outer = Outer.of(release, training_folder)
    with environment(outer.variables):
        yield outer


@pytest.fixture
def begin(outer: Outer, training_folder: Path) -> Callable[..., ClusterRun]:
    """Begin a run of so many steps, each test with a seed of its own: none finds another's done."""

    def begun(num_steps: int, *overrides: str, seed: int) -> ClusterRun:
        steps = f"train_spatial_vae.loop.num_steps={num_steps}"
        return begin_run(outer, training_folder / "videos", steps, f"seed={seed}", *overrides)

    return begun


@pytest.fixture(scope="session")
def undisturbed(training_folder: Path) -> Callable[[ClusterRun], StepSpec]:
    """Train the same on this machine, by two processes."""

    def trained(run: ClusterRun) -> StepSpec:
        place = training_folder / "undisturbed"
        loop = run.spec.config["loop"]
        steps = f"train_spatial_vae.loop.num_steps={loop['num_steps']}"
        with environment({"KINO_WORKSPACE": str(place), "KINO_CACHE_SOURCES": "0"}) as patch:
            patch.delenv("KINO_STORE_URI", raising=False)
            own = begin_run(
                Outer("", {}), training_folder / "videos", steps, f"seed={run.spec.seed}"
            )
            run_here(own.run, STEP, {"clips": own.clips_uri})
            return own.spec

    return trained


@pytest.fixture(scope="session")
def kubeflow(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A release of the chart beside Kubeflow Pipelines, installed once."""
    what = "the namespace of Kubeflow Pipelines, single-user, that tests may fill"
    lab = Lab(
        installed.given("KINO_TEST_PIPELINES_NAMESPACE", what), tmp_path_factory.mktemp("lab")
    )
    trainer = installed.given("KINO_TEST_TRAINER_TAG", "an image with packages: tasks mount none")
    try:
        lab.install(trainer)
        lab.settle()
        with lab.forwarding():
            yield lab
    finally:
        lab.release.uninstall()


@pytest.fixture
def lab(kubeflow: Lab) -> Iterator[Lab]:
    """The release, whose store this process reads, too, with the images that are tested."""
    kubeflow.install(os.environ["KINO_TEST_TRAINER_TAG"])
    with environment(kubeflow.variables):
        yield kubeflow


@pytest.fixture
def newer_tag() -> str:
    """The tag of images whose steps have other revisions."""
    return installed.given("KINO_TEST_NEWER_TAG", "images of code with raised revisions of steps")
