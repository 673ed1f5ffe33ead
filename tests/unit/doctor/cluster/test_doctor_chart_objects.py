"""What the doctor reads out of the chart's objects."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kinetoscope.doctor.cluster.access import LAUNCHER_RULES, USER_RULES, first_account, rights
from kinetoscope.doctor.cluster.chart_objects import template_problems

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "training-runtime.yaml"
NODE = {"name": "node", "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}  # noqa: S108
POD = {
    "automountServiceAccountToken": False,
    "containers": [NODE],
    "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}, {"name": "t", "emptyDir": {}}],
}
JOB = {
    "backoffLimit": 0,
    "podFailurePolicy": {
        "rules": [
            {"action": "FailJob", "onExitCodes": {"values": [2, 77, 79]}},
            {"action": "FailJob", "onExitCodes": {"values": [75, 78]}},
            {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]},
        ]
    },
    "template": {"spec": POD},
}
JOBSET = {
    "failurePolicy": {
        "rules": [{"action": "FailJobSet"}, {"action": "RestartJobSetAndIgnoreMaxRestarts"}]
    },
    "replicatedJobs": [{"name": "node", "template": {"spec": JOB}}],
}
RUNTIME = {"kind": "TrainingRuntime", "spec": {"template": {"spec": JOBSET}}}


def _problems(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> list[str]:
    runtime = copy.deepcopy(RUNTIME)
    jobset = runtime["spec"]["template"]["spec"]  # type: ignore[index]
    change(jobset, jobset["replicatedJobs"][0]["template"]["spec"])
    return template_problems({KEY: yaml.safe_dump(runtime)}, KEY)


def test_a_template_as_the_chart_s_has_no_problem() -> None:
    assert _problems(lambda _, __: None) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda _, job: job["podFailurePolicy"]["rules"].pop(1), "exit codes 2, 75, 77, 78, 79"),
        (
            lambda _, job: job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"].pop(),
            "exit codes 2, 75, 77, 78, 79",
        ),
        (lambda _, job: job.update(backoffLimit=6), "backoffLimit"),
        (lambda jobset, _: jobset.pop("failurePolicy"), "failurePolicy"),
        (lambda jobset, _: jobset.update(ttlSecondsAfterFinished=5), "run again"),
        (lambda _, job: job["template"]["spec"]["volumes"].pop(0), "/dev/shm"),  # noqa: S108
        (lambda _, job: job["template"]["spec"].pop("automountServiceAccountToken"), "token"),
        (lambda jobset, _: jobset["replicatedJobs"][0].update(name="other"), "replicated job"),
    ],
)
def test_each_change_is_named(
    change: Callable[[dict[str, Any], dict[str, Any]], object], problem: str
) -> None:
    (found,) = _problems(change)
    assert KEY in found
    assert problem in found


def test_a_missing_or_broken_template_is_named() -> None:
    assert template_problems({}, KEY) == [f"{KEY} is missing"]
    assert "not valid YAML" in template_problems({KEY: "a: : b"}, KEY)[0]


def test_rights_are_single_and_without_wildcards() -> None:
    single = rights(LAUNCHER_RULES)
    assert len(single) == len(set(single))
    assert "create trainjobs.trainer.kubeflow.org" in map(str, single)
    assert "get configmaps" in map(str, single)
    assert "get pods/log" in map(str, single)
    assert not any("*" in part or part == "secrets" for right in single for part in right)
    assert set(single) < set(rights(USER_RULES))


def test_the_account_of_the_launchers_is_read_from_the_binding() -> None:
    subjects = [{"kind": "User", "name": "ada"}, {"kind": "ServiceAccount", "name": "runner"}]
    assert first_account({"subjects": subjects}) == "runner"
    assert first_account({"subjects": subjects[:1]}) is None
    assert first_account({}) is None
