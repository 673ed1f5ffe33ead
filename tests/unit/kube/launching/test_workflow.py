"""A launcher sees its Workflow being ended, whatever it may see of it before."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest
from tiny.kube_api import PODS, Api, status

from kinetoscope.kube.connection import Cluster
from kinetoscope.kube.launching.workflow import WorkflowWatch, is_being_ended

WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/runs/workflows"
POD = f"{PODS}/launcher-0"


def a_pod(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "launcher-0", "labels": labels}}


def workflow(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "wf", "resourceVersion": "1"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "is_ended"),
    [
        ({}, False),
        ({"activeDeadlineSeconds": 3600}, False),
        ({"activeDeadlineSeconds": 0}, True),
        ({"shutdown": "Terminate"}, True),
        ({"shutdown": "Stop"}, True),
    ],
)
def test_a_workflow_that_is_being_ended_says_so(spec: dict[str, Any], is_ended: bool) -> None:
    assert is_being_ended(workflow(**spec)) is is_ended


def test_a_workflow_that_may_not_be_seen_is_told_of_once(
    api: Api, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    api.has(POD, a_pod(**{"workflows.argoproj.io/workflow": "wf"}))
    api.answers["GET", f"{WORKFLOWS}/wf"] = lambda: status(403, "Forbidden", "cannot get")
    ended = threading.Event()
    with caplog.at_level(logging.WARNING):
        watch = WorkflowWatch(cluster, "launcher-0", ended.set)
        time.sleep(3.5)
        assert len([one for one in caplog.messages if "can't be watched" in one]) == 1
    assert not watch.is_ending
    api.has(f"{WORKFLOWS}/wf", workflow(activeDeadlineSeconds=0))
    assert ended.wait(10)
    assert watch.is_ending


def test_an_end_is_seen_when_it_comes(api: Api, cluster: Cluster) -> None:
    api.has(POD, a_pod(**{"workflows.argoproj.io/workflow": "wf"}))
    api.has(f"{WORKFLOWS}/wf", workflow())
    ended = threading.Event()
    watch = WorkflowWatch(cluster, "launcher-0", ended.set)
    api.changes = [workflow(), workflow(shutdown="Stop")]
    assert ended.wait(15)
    assert watch.is_ending
