"""The end of a run: its state, and a report that one can read offline and send around."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from kinetoscope.core.errors import CorruptError, ExitCode, NotFoundError
from kinetoscope.core.full_disk import full_disk
from kinetoscope.core.text import printable_value
from kinetoscope.core.units import format_bytes, format_seconds, format_utc
from kinetoscope.runs.record_types import BEGIN, End, Failure, RunState
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.view import run_row, step_results, step_row
from kinetoscope.steps.contract import ATTEMPTS, StepResult
from kinetoscope.steps.endings import OFTEN_MEMORY, ending_state
from kinetoscope.steps.results import read_status, step_state
from kinetoscope.storage.open import open_store

_MAX_EMBEDDED_BYTES = 8 << 20
_CHART_PX = (640, 160)
_CHART_POINTS = 400


def finish_start(run: Run, start: RunStart) -> RunState:
    """Note how a start of a run ended and write its report; return the state."""
    start.release()
    end = _end(run, start)
    try:
        run.store.put_bytes(start.report_key, _render(run, end).encode())
    finally:  # a report that can't be written leaves no run without an end
        start.finish(end)
    return end.state


def _end(run: Run, start: RunStart) -> End:
    failure = _failure(run, start)
    try:
        done = step_results(run)
    except CorruptError as error:
        done, failure = {}, failure or Failure.of("", error)
    open_steps = [
        name for name in run.record.steps if name not in done or not _was_reached(run, start, name)
    ]
    if failure is None and not open_steps:
        return End(state="succeeded", finished_at=time.time())
    told = failure or _untold(run, start, open_steps[0])
    state: RunState = "failed"
    if ending_state(told.code) == "stopped" or start.stop_requested():
        state = "stopped"
        told = told.model_copy(update={"hint": f"kino resume {run.run_id} continues it"})
    return End(state=state, finished_at=time.time(), **told.model_dump())


def _failure(run: Run, start: RunStart) -> Failure | None:
    """Return why the first step failed that told so."""
    told = (start.failure(name) for name in (BEGIN, *run.record.steps))
    return next((failure for failure in told if failure is not None), None)


def _was_reached(run: Run, start: RunStart, step: str) -> bool:
    """Tell whether a start came to a step, which may have been done long before.

    What a backend tries again of a job, it does not begin with the steps that were done.
    """
    record = run.step(step)
    if record is None or record.start == start.number:
        return record is not None
    job_id = start.record.job_id if start.record is not None else ""
    before = run.start(record.start).record
    return bool(job_id) and before is not None and before.job_id == job_id


def _untold(run: Run, start: RunStart, step: str) -> Failure:
    """Return what is known of a step whose process in the pipeline ended without saying why."""
    run_id, record = run.run_id, run.step(step)
    status = read_status(run.step_uri(record)) if record is not None else None
    # A step that stopped though nobody asked noticed that the process which ran it was gone.
    if status and status.code and (status.state == "failed" or start.stop_requested()):
        reason, hint = status.reason, status.hint
        return Failure(step=step, code=status.code, reason=reason, hint=hint)
    full = full_disk()
    if full is not None:
        return Failure.of(step, full)
    if record is None:
        reason = "the step never began"
        hint = f"kino logs {run_id} shows the run's own log, which may say why"
    else:
        attempt = step_state(run.step_uri(record)).generation
        reason = f"the step began, and what ran attempt {attempt} of it ended without a word"
        hint = f"kino logs {run_id} {step} shows how far it came; {OFTEN_MEMORY}"
    return Failure(step=step, code=ExitCode.FAILED, reason=reason, hint=hint)


def _render(run: Run, end: End) -> str:
    results = step_results(run)
    environment = Environment(
        loader=PackageLoader("kinetoscope.runs"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        finalize=printable_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": format_seconds, "bytes": format_bytes}
    return environment.get_template("run_report.html").render(
        run=run_row(run) | {"state": end.state},
        record=run.record,
        end=end,
        created=format_utc(run.record.created_at),
        steps=[step_row(run, name) for name in run.record.steps],
        results=results,
        scores=_scores(results),
        charts=[_chart(name, result) for name, result in results.items() if _is_training(name)],
        videos=_videos(results),
        buckets=run.buckets,
        config=json.dumps(json.loads(run.config_json), indent=1),
    )


def _scores(results: dict[str, StepResult]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for name in ("evaluate_vae", "evaluate_dit"):
        if name in results:
            scores |= results[name].metrics
    return scores


def _is_training(name: str) -> bool:
    return name.startswith("train_")


def _chart(name: str, result: StepResult) -> dict[str, Any]:
    """Return the loss curve of a training step as the points of an SVG polyline."""
    store = open_store(result.uri)
    losses: dict[int, float] = {}
    # A later attempt's word on a step that was trained again counts.
    for stat in store.list(ATTEMPTS):
        if not stat.key.endswith("/metrics.jsonl"):
            continue
        for line in store.get_bytes(stat.key).splitlines():
            row = json.loads(line)
            if "train.loss" in row["metrics"]:
                losses[row["step"]] = row["metrics"]["train.loss"]
    steps = sorted(losses)[:: max(1, len(losses) // _CHART_POINTS)]
    values = [losses[step] for step in steps]
    if not values:
        return {"name": name, "points": "", "low": 0.0, "high": 0.0, "last_step": 0}
    low, high = min(values), max(values)
    width, height = _CHART_PX
    span = (high - low) or 1.0
    points = [
        f"{width * index / max(1, len(values) - 1):.1f},{height * (high - value) / span:.1f}"
        for index, value in enumerate(values)
    ]
    return {
        "name": name,
        "points": " ".join(points),
        "low": low,
        "high": high,
        "last_step": steps[-1],
    }


def _videos(results: dict[str, StepResult]) -> list[dict[str, Any]]:
    """Return the small MP4s that the evaluations show, embedded as data URIs, with their texts."""
    wanted = [
        ("evaluate_vae", "grid", "Held-out clips above their reconstructions"),
        ("evaluate_dit", "grid", "Generated clips"),
    ]
    found: list[dict[str, Any]] = []
    for step, artifact, title in wanted:
        try:
            key = results[step].artifact(artifact).key
        except (KeyError, NotFoundError):
            continue
        store = open_store(results[step].uri)
        for stat in store.list(key):
            if stat.key.endswith(".mp4") and stat.size_bytes <= _MAX_EMBEDDED_BYTES:
                data = base64.b64encode(store.get_bytes(stat.key)).decode()
                source = f"data:video/mp4;base64,{data}"
                texts = results[step].summary.get("shown", [])
                found.append({"title": title, "source": source, "texts": texts})
    return found
