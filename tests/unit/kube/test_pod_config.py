"""What the pods of a step may be given, and what is refused before anything is submitted."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kinetoscope.kube.config import ClusterConfig, PodConfig

DIGEST = "registry.example.com:5000/team/trainer@sha256:" + "0" * 64


@pytest.mark.parametrize(
    "given",
    [
        {"image": DIGEST},
        {"image": "trainer"},
        {"pull_secrets": ("registry", "registry.example.com")},
        {"gpus": 0},
        {"gpu_resource": "nvidia.com/mig-3g.40gb"},
        {"gpu_resource": "amd.com/gpu", "devices": {"nvidia.com/gpu": 1}},
        {"devices": {"rdma/hca_shared_devices_a": 1}},
        {"cpu": "8"},
        {"cpu": "0.5"},
        {"cpu": "500m"},
        {"memory": "64Gi"},
        {"memory": "1.5T"},
        {"shm": "68719476736"},
        {"scratch": {"size": "1Ti"}},
        {"scratch": {"size": "1Ti", "storage_class": "local-nvme"}},
        {"scratch": {"claim": "scratch"}},
        {"node_selector": {"topology.kubernetes.io/zone": "eu-1a", "gpu": ""}},
        {"run_as_user": 1},
        {"run_as_user": 2**31 - 1},
        {"labels": {"team": "video", "example.com/cost-center": "42"}},
        {"env": {"NCCL_DEBUG": "INFO", "_X": ""}},
        {"queue": "team-a"},
        {"gang_minutes": 0},
        {"orphan_minutes": 0.5},
        {"deadline_hours": 0.1},
    ],
    ids=str,
)
def test_what_pods_may_be_given(given: dict[str, Any]) -> None:
    config = PodConfig(**given)
    assert PodConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"image": ""}, "image"),
        ({"image": "a b"}, "image"),
        ({"image": "trainer:1\n"}, "image"),
        ({"pull_secrets": ("A",)}, "pull_secrets"),
        ({"gpus": -1}, "gpus"),
        ({"gpu_resource": "gpu"}, "gpu_resource"),
        ({"gpu_resource": ""}, "gpu_resource"),
        ({"devices": {"memory": 1}}, "devices"),
        ({"devices": {"cpu": 1}}, "devices"),
        ({"devices": {"rdma/hca": -1}}, "devices"),
        ({"devices": {"nvidia.com/gpu": 2}}, "is gpu_resource, counted by gpus"),
        ({"cpu": "8 cores"}, "cpu"),
        ({"cpu": "8Gi"}, "cpu"),
        ({"cpu": "-1"}, "cpu"),
        ({"memory": "512m"}, "memory"),
        ({"memory": "64 Gi"}, "memory"),
        ({"memory": "64GB"}, "memory"),
        ({"memory": "1e3"}, "memory"),
        ({"memory": "64Gi\n"}, "memory"),
        ({"shm": "lots"}, "shm"),
        ({"scratch": {"size": "x"}}, "size"),
        ({"scratch": {"storage_class": "nvme"}}, "storage_class needs size"),
        ({"scratch": {"claim": "a", "size": "1Gi"}}, "give claim, or size"),
        ({"scratch": {"claim": "A_b"}}, "claim"),
        ({"node_selector": {"a b": "c"}}, "node_selector"),
        ({"node_selector": {"a": "c d"}}, "node_selector"),
        ({"tolerations": ("gpu",)}, "tolerations"),
        ({"affinity": ["x"]}, "affinity"),
        ({"topology_spread": ("x",)}, "topology_spread"),
        ({"priority_class": "High"}, "priority_class"),
        ({"scheduler": "a b"}, "scheduler"),
        ({"run_as_user": 0}, "run_as_user"),
        ({"run_as_user": 2**31}, "run_as_user"),
        ({"s3_secret": "../store"}, "s3_secret"),
        ({"mlflow_secret": ""}, "mlflow_secret"),
        ({"labels": {"kinetoscope.dev/run": "x"}}, "labels: kinetoscope.dev/run is set by"),
        ({"labels": {"app.kubernetes.io/component": "x"}}, "labels: app.kubernetes.io/component"),
        ({"labels": {"jobset.sigs.k8s.io/jobset-name": "x"}}, "labels: jobset"),
        ({"labels": {"kueue.x-k8s.io/queue-name": "x"}}, "labels: kueue"),
        ({"labels": {"batch.kubernetes.io/job-name": "x"}}, "labels: batch"),
        ({"labels": {"team": "a/b"}}, "labels"),
        ({"labels": {"": "a"}}, "labels"),
        ({"labels": {"team": "x" * 64}}, "labels"),
        ({"env": {"KINO_POD_UID": "x"}}, "env: KINO_POD_UID is set by"),
        ({"env": {"PET_NNODES": "2"}}, "env: PET_NNODES is set by"),
        ({"env": {"A-B": "x"}}, "env"),
        ({"env": {"": "x"}}, "env"),
        ({"queue": "a/b"}, "queue"),
        ({"queue": ""}, "queue"),
        ({"queue": "x" * 64}, "queue"),
        ({"gang_minutes": -1}, "gang_minutes"),
        ({"orphan_minutes": 0}, "orphan_minutes"),
        ({"deadline_hours": 0}, "deadline_hours"),
        ({"gpu": 1}, "gpu"),
    ],
    ids=str,
)
def test_what_no_pod_can_have_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        PodConfig(**given)
    assert told in str(error.value)


def test_what_a_step_says_replaces_and_what_it_leaves_out_does_not() -> None:
    cluster = ClusterConfig.model_validate(
        {
            "training": {"gpus": 8, "memory": "64Gi", "labels": {"a": "b"}, "image": "own:1"},
            "steps": {
                "train_dit_1": {"memory": "1Ti", "labels": {"c": "d"}, "image": None},
                "train_vae_1": {},
            },
        }
    )
    own = cluster.pod("train_dit_1")
    assert (own.gpus, own.memory, own.labels, own.image) == (8, "1Ti", {"c": "d"}, None)
    assert cluster.pod("train_vae_1") == cluster.pod("train_vae_2") == cluster.training
