"""What pods, conditions and events, as the API gave them on a real cluster, are taken to mean."""

from __future__ import annotations

from typing import Any

import pytest

from kinetoscope.kube.jobs.state import (
    JobState,
    Observation,
    PodState,
    event_reason,
    job_state,
    pod_state,
)


def pod(rank: int = 0, *, status: dict[str, Any], **metadata: Any) -> PodState:
    labels = {
        "batch.kubernetes.io/job-completion-index": str(rank),
        "jobset.sigs.k8s.io/restart-attempt": "1",
    }
    name = f"train-node-0-{rank}-abcde"
    return pod_state(
        {
            "metadata": {"name": name, "uid": name, "labels": labels, **metadata},
            "spec": {"nodeName": "node-2"},
            "status": status,
        }
    )


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "node", "state": state}]}


RUNNING = {"phase": "Running", **container(running={})}
CREATING = {"phase": "Pending", **container(waiting={"reason": "ContainerCreating"})}
DONE = {"phase": "Succeeded", **container(terminated={"exitCode": 0, "reason": "Completed"})}
OOM = {"phase": "Running", **container(terminated={"exitCode": 137, "reason": "OOMKilled"})}
SAVED = {
    "phase": "Failed",
    **container(terminated={"exitCode": 75, "reason": "Error", "message": "saved\n"}),
}
DRAINED = {
    **SAVED,
    "conditions": [{"type": "DisruptionTarget", "status": "True", "message": "drained"}],
}
NOT_READY = {"type": "Ready", "status": "False"}
TAINTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "DeletionByTaintManager",
    "message": "Taint manager: deleting due to NoExecute taint",
}
SILENT = {**RUNNING, "conditions": [NOT_READY]}
LOST = {**RUNNING, "conditions": [NOT_READY, TAINTED]}
LOST_LONG = {**RUNNING, "reason": "NodeLost", "message": "Node node-2 which was running pod"}
SENT_AWAY = {**RUNNING, "conditions": [{"type": "Ready", "status": "True"}, TAINTED]}
SAVED_AND_LEFT = {**SAVED, "conditions": [NOT_READY, TAINTED]}
GONE = "node-lost: node node-2: does not answer; pod train-node-0-0-abcde runs there, if at all"
PULLING = {
    "phase": "Pending",
    **container(
        waiting={
            "reason": "ImagePullBackOff",
            "message": 'Back-off pulling image "x:1": ErrImagePull: x:1: not found',
        }
    ),
}
FIRST_PULL = {
    "phase": "Pending",
    **container(waiting={"reason": "ErrImagePull", "message": "x:1: not found"}),
}
NO_KEY = {
    "phase": "Pending",
    **container(waiting={"reason": "CreateContainerConfigError", "message": 'no secret "s"'}),
}
CROWDED = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        }
    ],
}


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (RUNNING, None),
        (CREATING, None),
        (DONE, None),
        (OOM, "out-of-memory: pod train-node-0-0-abcde: the kernel killed it at its memory limit"),
        (
            SAVED,
            "exit: pod train-node-0-0-abcde: exit code 75 "
            "(preempted, state saved; restarted for free)",
        ),
        (DRAINED, "evicted: pod train-node-0-0-abcde: drained"),
        (SILENT, GONE),
        (LOST, GONE),
        (LOST_LONG, GONE),
        (SENT_AWAY, f"evicted: pod train-node-0-0-abcde: {TAINTED['message']}"),
        (SAVED_AND_LEFT, f"evicted: pod train-node-0-0-abcde: {TAINTED['message']}"),
        (
            {**OOM, "conditions": [TAINTED]},
            "out-of-memory: pod train-node-0-0-abcde: the kernel killed it at its memory limit",
        ),
        (
            {"phase": "Failed", **container(terminated={"exitCode": 79, "reason": "Error"})},
            "exit: pod train-node-0-0-abcde: exit code 79 (withdrawn, state saved; not restarted)",
        ),
        (PULLING, "image: pod train-node-0-0-abcde: ImagePullBackOff: x:1: not found"),
        (
            NO_KEY,
            'config: pod train-node-0-0-abcde: CreateContainerConfigError: no secret "s"',
        ),
        (
            CROWDED,
            "unschedulable: pod train-node-0-0-abcde: Unschedulable: 0/1 nodes are available: "
            "1 Insufficient nvidia.com/gpu.",
        ),
    ],
)
def test_a_pod_says_what_is_wrong_with_it(status: dict[str, Any], why: str | None) -> None:
    reason = pod(status=status).why()
    assert (str(reason) if reason else None) == why


def test_the_same_trouble_looks_the_same_while_the_node_tries_again() -> None:
    assert pod(status=PULLING) == pod(status=FIRST_PULL)


def test_a_pod_has_its_rank_attempt_code_and_last_lines() -> None:
    seen = pod(3, status=SAVED, deletionTimestamp="2026-11-24T00:00:00Z")
    assert (seen.rank, seen.attempt, seen.exit_code) == (3, 1, 75)
    assert (seen.message, seen.stopping, seen.failed) == ("saved\n", True, True)


def test_a_pod_on_a_lost_node_has_failed_though_nobody_can_say_how() -> None:
    lost = pod(status=LOST, deletionTimestamp="2026-11-24T00:00:00Z")
    assert (lost.reason, lost.node, lost.exit_code) == ("NodeLost", "node-2", None)
    assert lost.failed
    assert not pod(status=SILENT).failed, "it may come back"
    assert not pod(status=SENT_AWAY).failed, "it is saving"


def test_a_pod_that_is_not_ready_while_it_stops_is_on_no_lost_node() -> None:
    assert pod(status=SILENT, deletionTimestamp="2026-11-24T00:00:00Z").why() is None


@pytest.mark.parametrize(
    ("status", "in_trouble"),
    [(CROWDED, True), (NO_KEY, True), (PULLING, True), (CREATING, False), (SILENT, False)],
)
def test_only_a_pod_that_can_not_start_is_in_trouble(
    status: dict[str, Any], in_trouble: bool
) -> None:
    seen = pod(status=status)
    assert (not seen.started and seen.why() is not None) is in_trouble


@pytest.mark.parametrize(
    ("conditions", "suspend", "statuses", "state"),
    [
        ([], False, [], "pending"),
        ([], False, [RUNNING, CREATING], "pending"),
        ([], False, [RUNNING, CROWDED], "pending"),
        ([], False, [RUNNING, DONE], "running"),
        ([], False, [RUNNING, {**SAVED, "phase": "Pending"}], "running"),
        ([], True, [RUNNING, RUNNING], "suspended"),
        (["Complete"], False, [DONE, DONE], "succeeded"),
        (["Failed"], False, [SAVED, DONE], "failed"),
        (["Suspended"], False, [RUNNING, RUNNING], "running"),
    ],
)
def test_a_job_s_state_is_its_conditions_and_its_pods(
    conditions: list[str], suspend: bool, statuses: list[dict[str, Any]], state: JobState
) -> None:
    train_job = {
        "spec": {"suspend": suspend},
        "status": {"conditions": [{"type": kind, "status": "True"} for kind in conditions]},
    }
    pods = [pod(rank, status=status) for rank, status in enumerate(statuses)]
    assert job_state(train_job, pods, num_nodes=2) == state


def test_pods_that_are_stopping_are_not_the_new_ones() -> None:
    old = pod(status=RUNNING, deletionTimestamp="2026-11-24T00:00:00Z")
    assert job_state({"spec": {}}, [old], num_nodes=1) == "pending"


def test_a_suspended_job_is_finished_when_its_pods_have_saved_and_left() -> None:
    saving = (pod(status=RUNNING),)
    assert not Observation("suspended", pods=saving).finished
    assert Observation("suspended").finished
    assert Observation("failed", pods=saving).finished
    assert not Observation("unknown").finished
    assert not Observation("absent", pods=saving).finished
    assert Observation("absent").finished


@pytest.mark.parametrize(
    ("reason", "message", "kind"),
    [
        ("FailedCreate", 'forbidden: violates PodSecurity "restricted:latest"', "pod-security"),
        ("FailedCreate", 'pods "x" is forbidden: exceeded quota: runs', "quota"),
        ("FailedCreate", "Error creating: serviceaccount not found", "create"),
        ("FailedMount", 'MountVolume.SetUp failed: secret "store" not found', "volume"),
        ("TrainJobResourcesCreationFailed", "reconciliation failed", "create"),
        ("NetworkNotReady", "cni", "event"),
        ("FailedScheduling", "0/1 nodes", None),
        ("BackOff", "pulling", None),
        ("DefaultFailurePolicy", "applying RestartJobSet", None),
        ("RestartJobSetFailurePolicyAction", "applying", None),
        ("FailurePolicy_preempted", "applying", None),
        ("FailurePolicy_free", "applying", None),
    ],
)
def test_events_are_sorted_and_noise_is_left_out(
    reason: str, message: str, kind: str | None
) -> None:
    event = {
        "reason": reason,
        "message": message,
        "involvedObject": {"kind": "Job", "name": "train-node-0"},
    }
    found = event_reason(event)
    assert (found.kind if found else None) == kind
    if found:
        assert found.subject == "job train-node-0"
        assert message in found.message
