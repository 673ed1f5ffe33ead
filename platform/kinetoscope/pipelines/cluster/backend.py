"""A cluster that runs pipelines, as `kino --on cluster` reaches it."""

from __future__ import annotations

from dataclasses import dataclass

from kinetoscope.core import settings
from kinetoscope.core.errors import ConfigError
from kinetoscope.kube.api_errors import AbsentError
from kinetoscope.kube.connection import Cluster, connect
from kinetoscope.kube.profiles import choose_profile
from kinetoscope.pipelines.cluster.pipelines_api import ENDED, PipelinesApi
from kinetoscope.pipelines.cluster.release import Release
from kinetoscope.runs.starts.start import RunStart

# What a client takes from the release where its own environment does not say it. Not: where pods
# have their files.
_FOR_CLIENTS = (
    "KINO_STORE_URI",
    "KINO_S3_ENDPOINT",
    "KINO_S3_REGION",
    "KINO_S3_ADDRESSING",
    "MLFLOW_TRACKING_URI",
)


@dataclass(frozen=True, slots=True)
class Backend:
    """A release of the chart, and the Kubeflow Pipelines beside it.

    Args:
        cluster: the connection.
        release: what pods take from the chart.
    """

    cluster: Cluster
    release: Release

    @property
    def pipelines(self) -> PipelinesApi:
        """Its Kubeflow Pipelines."""
        return PipelinesApi(self.cluster)

    def is_over(self, start: RunStart) -> bool:
        """Tell whether the pipeline that carries a start has ended.

        It ends after the run has: its last task is what notes that. It alone ends where that task
        could not run.
        """
        job_id = start.record.job_id if start.record is not None else ""
        if not job_id:
            return not start.is_running()
        return self.pipelines.run_state(job_id) in ENDED


def reach(profile: str | None = None) -> Backend:
    """Connect to a cluster, and keep runs in its object store from now on.

    What this process's environment says of the store and of MLflow counts more than what the
    release tells its pods, who may reach them by other addresses.

    Args:
        profile: name of a profile; None takes the current one.

    Raises:
        ApiError: the cluster can't be reached, or refuses.
        ConfigError: the release is not there, or of an older chart.
    """
    cluster = connect(choose_profile(profile))
    name = f"{cluster.fullname}-environment"
    try:
        told = dict(cluster.core.read_namespaced_config_map(name, cluster.namespace).data or {})
    except AbsentError:
        raise ConfigError(
            f"namespace {cluster.namespace} has no ConfigMap {name}: release "
            f"{cluster.release} of the chart is not there, or has no runs in it",
            hint="kino config profiles says where runs are; docs/cluster.md how to install",
        ) from None
    release = Release.of(cluster.fullname, told)
    settings.take_defaults({key: told[key] for key in _FOR_CLIENTS if told.get(key)})
    return Backend(cluster, release)
