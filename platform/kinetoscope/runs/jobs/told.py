"""The training job of a step, where a cluster runs it, as its launcher told last."""

from __future__ import annotations

import time
from typing import Any

from kinetoscope.core.units import format_seconds
from kinetoscope.kube.launching.record import read_job_record
from kinetoscope.runs.record_types import StepRecord
from kinetoscope.runs.records import Run

# A launcher that lives tells something every 15 s.
_SILENT_SECONDS = 60.0
_NOT_AT_WORK = ("pending", "suspended", "waiting", "absent")


def job_row(run: Run, record: StepRecord) -> dict[str, Any] | None:
    """Return what is known of a step's training job; None where it has none.

    Its keys are those of `kube.launching.record.JobRecord`; ``seconds_ago`` tells how old that is.
    """
    start = run.start(record.start)
    found = read_job_record(run.store, start.launcher_key(record.name))
    if found is None:
        return None
    row: dict[str, Any] = found.model_dump(mode="json", exclude={"count"})
    # One far ahead is as little fresh as one far behind: the clock that it is of is wrong.
    return {**row, "seconds_ago": abs(time.time() - found.at)}


def with_job(row: dict[str, Any], job: dict[str, Any] | None) -> dict[str, Any]:
    """Return a step's row with its job, which knows better whether pods are at work."""
    if job is None:
        return row
    told = row | {"job": job}
    is_open = row["state"] in ("pending", "waiting", "running", "interrupted")
    if is_open and job["seconds_ago"] <= _SILENT_SECONDS and job["state"] in _NOT_AT_WORK:
        told |= {"state": "waiting", "metrics_url": ""}
        told["reason"] = "; ".join(_told(reason) for reason in job["reasons"])
    return told


def job_lines(row: dict[str, Any]) -> list[str]:
    """Return what a person wants to know of a step's job: how it fares, and what went wrong."""
    job = row.get("job")
    if job is None or row["state"] == "done":
        return []
    lines = [f"{row['name']}: training job {job['job']} in {job['namespace']}: {job['state']}"]
    if job["seconds_ago"] > _SILENT_SECONDS:
        lines[0] += f" {format_seconds(job['seconds_ago'])} ago; its launcher is silent since"
    places = [f"{pod['pod']} on {pod['node'] or 'no node yet'}" for pod in job["pods"]]
    if places:
        lines.append(f"  pods: {', '.join(places)}")
    for reason in job["reasons"]:
        lines.append(f"  {_told(reason)}")
        if reason["hint"]:
            lines.append(f"    hint: {reason['hint']}")
    for failure in job["failures"]:
        where = f"pod {failure['pod']}" + (f" on {failure['node']}" if failure["node"] else "")
        lines.append(f"  ended: {where}: {failure['kind']}: {failure['why']}")
    return lines


def _told(reason: dict[str, Any]) -> str:
    return f"{reason['kind']}: {reason['subject']}: {reason['message']}"
