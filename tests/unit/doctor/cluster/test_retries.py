"""What the doctor makes of the retries in the settings of Argo's workflow controller."""

from __future__ import annotations

from typing import Any

import pytest

from kinetoscope.doctor.cluster.retries import RECOMMENDED, judge_retries, merge_retry

# As Pipelines 2.17.0 has it (manifests/kustomize/third-party/argo/base).
STOCK = """\
spec:
  ttlStrategy:
    secondsAfterCompletion: 3600
    secondsAfterSuccess: 3600
    secondsAfterFailure: 3600
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""
ON_ERROR = "steps that retry: OnError: pods that are deleted"
ON_FAILURE = "steps that retry: OnFailure: pods that are deleted"
ALONE = "KFP's own drivers and DAGs get these defaults alone"


def _templates(strategy: str) -> dict[str, str]:
    return {"workflowDefaults": f"{{spec: {{templateDefaults: {{retryStrategy: {strategy}}}}}}}"}


def _workflow(strategy: str) -> dict[str, str]:
    return {"workflowDefaults": f"{{spec: {{retryStrategy: {strategy}}}}}"}


CASES: dict[str, tuple[dict[str, Any] | None, str, list[str]]] = {
    "as Pipelines ships it": ({"workflowDefaults": STOCK}, "ok", [ON_ERROR, f"{ALONE} (limit: 2)"]),
    "as the hint says": ({"workflowDefaults": RECOMMENDED}, "ok", [ON_ERROR]),
    "beside other settings": ({"workflowDefaults": STOCK, "executor": "a: : b"}, "ok", [ON_ERROR]),
    "no data": (None, "poor", [ON_FAILURE, "are not retried"]),
    "no defaults": ({}, "poor", [ON_FAILURE, "KFP's own drivers and DAGs are not retried"]),
    "empty": ({"workflowDefaults": ""}, "poor", [ON_FAILURE]),
    "a list": ({"workflowDefaults": "[spec]"}, "poor", [ON_FAILURE]),
    "no policy": (_templates("{limit: 2}"), "poor", [ON_FAILURE]),
    "OnFailure": (_templates("{limit: 2, retryPolicy: OnFailure}"), "poor", [ON_FAILURE]),
    "Always": (_templates("{limit: 2, retryPolicy: Always}"), "poor", ["(exits 2 and 77)"]),
    "OnTransientError": (
        _templates("{limit: 2, retryPolicy: OnTransientError}"),
        "poor",
        ["which a deleted pod is not"],
    ),
    "another word": (_templates("{limit: 2, retryPolicy: onError}"), "bad", ["onError is no"]),
    "an expression": (
        _templates("{limit: 2, expression: 'lastRetry.status == \"Error\"'}"),
        "skipped",
        ["Always, where 'lastRetry.status"],
    ),
    "a policy and an expression": (
        _templates("{limit: 2, retryPolicy: OnError, expression: 'true'}"),
        "skipped",
        ["OnError, where 'true'"],
    ),
    # No template that says how often it retries is reached from there.
    "the workflow's alone": (
        _workflow("{limit: 2, retryPolicy: OnError}"),
        "poor",
        [ON_FAILURE, f"{ALONE} (limit: 2)"],
    ),
    "both, disagreeing": (
        {
            "workflowDefaults": "spec:\n  retryStrategy: {retryPolicy: Always}\n"
            "  templateDefaults: {retryStrategy: {limit: 3, retryPolicy: OnError}}\n"
        },
        "ok",
        [ON_ERROR, "(limit: 3)", "spec.retryStrategy is never used"],
    ),
    "both, the other way round": (
        {
            "workflowDefaults": "spec:\n  retryStrategy: {retryPolicy: OnError}\n"
            "  templateDefaults: {retryStrategy: {limit: 3, retryPolicy: Always}}\n"
        },
        "poor",
        ["(exits 2 and 77)", "spec.retryStrategy is never used"],
    ),
    "no limit": (_templates("{retryPolicy: OnError}"), "poor", [ON_ERROR, "retried for ever"]),
    "a short maxDuration": (
        _templates("{limit: 2, retryPolicy: OnError, backoff: {duration: 1m, maxDuration: 1h}}"),
        "poor",
        [ON_ERROR, "none is retried 1h after its first attempt"],
    ),
    "a backoff of no length": (
        _templates("{limit: 2, retryPolicy: OnError, backoff: {factor: 2}}"),
        "poor",
        [ON_ERROR, "no duration"],
    ),
    "an older layout": (
        {
            "config": "workflowDefaults:\n  spec:\n    templateDefaults:\n"
            "      retryStrategy: {limit: 2, retryPolicy: OnError}\n"
        },
        "ok",
        [ON_ERROR],
    ),
    "an older layout without defaults": ({"config": "executor: {}"}, "poor", [ON_FAILURE]),
    "both layouts": (
        {"config": "executor: {}", "workflowDefaults": STOCK},
        "poor",
        ["can't read", "no other key beside it"],
    ),
    "broken": ({"workflowDefaults": "spec:\n  a: : b\n"}, "poor", ["can't read", "not valid YAML"]),
    "broken in the older layout": ({"config": "a: : b"}, "poor", ["can't read"]),
    # Argo puts a value of one line beside its key, where this is none.
    "a mapping on one line": (
        {"workflowDefaults": "spec: {templateDefaults: {retryStrategy: {retryPolicy: OnError}}}"},
        "poor",
        ["can't read"],
    ),
}


@pytest.mark.parametrize(("data", "state", "told"), CASES.values(), ids=list(CASES))
def test_the_merged_policy_is_judged(
    data: dict[str, Any] | None, state: str, told: list[str]
) -> None:
    finding = judge_retries({"data": data}, "tried")
    assert finding.state == state
    assert [text for text in told if text not in finding.found] == []
    assert bool(finding.hint) == (state != "ok")
    assert "Always" not in finding.hint


def test_what_a_task_says_goes_before_the_defaults() -> None:
    defaults = {
        "limit": 9,
        "retryPolicy": "OnError",
        "backoff": {"duration": "1m", "maxDuration": "1h", "cap": "5m"},
    }
    own = {"limit": 2, "backoff": {"duration": "0s", "factor": "2.0", "maxDuration": "900000s"}}
    assert merge_retry(defaults, own) == {
        "limit": 2,
        "retryPolicy": "OnError",
        "backoff": {"duration": "0s", "factor": "2.0", "maxDuration": "900000s", "cap": "5m"},
    }
    assert merge_retry({}, own) == own
