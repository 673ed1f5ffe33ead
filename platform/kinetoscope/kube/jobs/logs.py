"""What the ranks of a training job write."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import urllib3

from kinetoscope.core.errors import ClusterError, NotFoundError
from kinetoscope.kube.connection import CONNECT_SECONDS, Cluster
from kinetoscope.kube.jobs.objects import job_pods
from kinetoscope.kube.jobs.request import TrainingJob
from kinetoscope.kube.jobs.state import PodState
from kinetoscope.kube.jobs.template import CONTAINER
from kinetoscope.kube.jobs.watch import observe

_SILENCE_SECONDS = 300
"""A connection that says nothing for so long is opened anew."""

_PAUSE_SECONDS = 1.0


def logs(
    cluster: Cluster, job: TrainingJob, rank: int = 0, *, last_lines: int | None = None
) -> str:
    """Return what a node has written since its latest start.

    Args:
        cluster: where it runs.
        job: as submitted.
        rank: of the node.
        last_lines: only so many; by default all that the node's machine has kept.

    Raises:
        NotFoundError: when the node has no pod that has started; restarts delete the pods of
            earlier attempts (`Observation.failures` keeps their last lines).
        ApiError: when the API does not answer or refuses.
    """
    pod = _newest(job_pods(cluster, job.namespace, job.name)[0], rank)
    if pod is None:
        raise NotFoundError(
            f"node {rank} of training job {job.name} has no started pod in {job.namespace}",
            hint=f"it has {job.num_nodes} nodes, from 0; pods go when it is suspended or deleted",
        )
    text: str = cluster.core.read_namespaced_pod_log(
        pod.name,
        job.namespace,
        container=CONTAINER,
        **({} if last_lines is None else {"tail_lines": last_lines}),
    )
    return text


def follow(cluster: Cluster, job: TrainingJob, rank: int = 0) -> Iterator[str]:
    """Yield a node's lines as they are written, through restarts, until the job is over.

    An API that does not answer is asked again; no line comes twice.
    """
    following = Following(cluster, job, rank)
    while True:
        seen = observe(cluster, job)
        yield from following.lines(seen.pods)
        if seen.finished:
            return
        time.sleep(_PAUSE_SECONDS)


class Following:
    """Follows what a node writes, from pod to pod, and knows what it has given already."""

    def __init__(self, cluster: Cluster, job: TrainingJob, rank: int = 0) -> None:
        self._cluster = cluster
        self._job = job
        self._rank = rank
        self._uid = ""
        self._stamp = ""

    def lines(self, pods: Iterable[PodState]) -> Iterator[str]:
        """Yield the new lines of the node's latest pod, until it or the connection ends."""
        pod = _newest(pods, self._rank)
        if pod is None:
            return
        if pod.uid != self._uid:
            self._uid, self._stamp = pod.uid, ""
        for written, line in _stream(self._cluster, self._job, pod, after=self._stamp):
            self._stamp = written
            yield line


def _newest(pods: Iterable[PodState], rank: int) -> PodState | None:
    """Return the latest pod of a node among those that have started."""
    started = [pod for pod in pods if pod.rank == rank and pod.started]
    return max(started, key=lambda pod: pod.attempt, default=None)


def _stream(
    cluster: Cluster, job: TrainingJob, pod: PodState, *, after: str
) -> Iterator[tuple[str, str]]:
    """Yield (time stamp, line) of what a pod has written after a time, until the stream ends."""
    try:
        response = cluster.core.read_namespaced_pod_log(
            pod.name,
            job.namespace,
            container=CONTAINER,
            follow=True,
            timestamps=True,
            _preload_content=False,
            _request_timeout=(CONNECT_SECONDS, _SILENCE_SECONDS),
        )
        rest = b""
        for chunk in response.stream(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from filter(lambda line: line[0] > after, map(_stamped, lines))
        if rest and _stamped(rest)[0] > after:  # the last line has no end
            yield _stamped(rest)
    except (ClusterError, urllib3.exceptions.HTTPError):
        return


def _stamped(line: bytes) -> tuple[str, str]:
    """Split a line into its time stamp, which sorts as text, and what was written."""
    stamp, _, text = line.decode(errors="replace").partition(" ")
    return stamp, text
