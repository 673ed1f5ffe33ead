"""Runs on record, as they leave them; free of torch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from tiny.ledgers import begin
from tiny.steps import commit

from kinetoscope.config.load import load_config
from kinetoscope.config.run import RunConfig
from kinetoscope.core.hashing import canonical_json, digest_bytes
from kinetoscope.core.settings import workspace
from kinetoscope.data.report.bucket_table import BucketRow, BucketTable
from kinetoscope.runs.record_types import End, RunRecord, Start, StepRecord
from kinetoscope.runs.records import Run
from kinetoscope.runs.starts.start import RunStart
from kinetoscope.runs.steps import planned_steps
from kinetoscope.steps.contract import Progress, StepStatus, VideosInput, status_key
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.storage.open import open_store

QUARANTINED = {"path": "a.mp4", "reason": "truncated", "detail": "3 of 9 frames"}
STEPS = ["prepare_data", "train_spatial_vae", "train_vae_1"]


TOY_KEY = "models/toy/0123456789abcdef"
"""Where the bundle of the model of ``make_finished_run`` would be."""


def new_run(
    run_id: str,
    *,
    created_at: float = 1.0,
    name: str = "smoke",
    config_json: bytes = b"{}",
    steps: Sequence[str] = tuple(STEPS),
) -> Run:
    """Write the record of a run that has begun no step."""
    run = Run(workspace().store_uri, run_id)
    record = RunRecord(
        run_id=run_id,
        name=name,
        created_at=created_at,
        videos=VideosInput(place="/videos", digest="sha256:0"),
        config_digest=digest_bytes(config_json),
        steps=list(steps),
    )
    run.create(record, config_json, b"")
    return run


def make_run(
    run_id: str,
    *,
    created_at: float = 1.0,
    prepared: str = "aa",
    name: str = "smoke",
    reason: str = "loss is nan",
    quarantine: Sequence[dict[str, str]] = (QUARANTINED,),
) -> Run:
    """Write the records of a run whose first step is done and whose second has failed."""
    run = new_run(run_id, created_at=created_at, name=name)
    _write_prepared(run, f"steps/prepare_data/{prepared}", quarantine)
    _write_failed(run, f"steps/train_spatial_vae/{run_id}", reason)
    run.latest_start().finish(
        End(state="failed", step=STEPS[1], reason=reason, code=77, hint="slower")
    )
    return run


def make_finished_run(run_id: str, *, created_at: float = 1.0) -> Run:
    """Write the records of a run of the recipe `smoke` that has registered ``toy/1``."""
    config = load_config("smoke").config
    data = canonical_json(config.to_json()).encode()
    run = new_run(run_id, created_at=created_at, config_json=data, steps=_names(config))
    start = run.begin(Start(process=ProcessIdentity.of(), started_at=created_at), after=0)
    _write_prepared(run, f"steps/prepare_data/{run_id}", (QUARANTINED,))
    rows = [BucketRow("32x32", 9, 32, 32, num_clips=6, batch_size=4)]
    run.note_buckets({"train_dit_1": BucketTable(8, rows, {"too short": 2})})
    for name in run.record.steps[1:-1]:
        _write_done(run, name, {"weights": f"outputs/{name}.bin"})
    model = {"name": "toy", "version": "1", "aliases": ["candidate"], "bundle_key": TOY_KEY}
    _write_done(run, "register_model", {"model": "outputs/model.json"}, model)
    run.store.put_bytes(start.report_key, b"<html>")
    start.finish(End(state="succeeded"))
    start.note_mirrored()
    return run


def _names(config: RunConfig) -> list[str]:
    return [step.name for step in planned_steps(config)]


def _write_done(
    run: Run, name: str, artifacts: dict[str, str], summary: dict[str, Any] | None = None
) -> None:
    key = f"steps/{name}/{run.run_id}"
    store = open_store(f"{run.root_uri}/{key}")
    begin(store)
    for artifact in artifacts.values():
        store.put_bytes(artifact, b"made")
    commit(store.uri, artifacts, {f"{name}.score": 0.5}, summary=summary or {}, seconds=2.0)
    run.note_step(StepRecord(name=name, key=key, cached=False, start=1))


def _write_prepared(run: Run, key: str, quarantine: Sequence[dict[str, str]]) -> None:
    uri = f"{run.root_uri}/{key}"
    store = open_store(uri)
    lines = "".join(json.dumps(row) + "\n" for row in quarantine)
    store.put_bytes("outputs/quarantine/quarantine.jsonl", lines.encode())
    store.put_bytes("outputs/report/report.html", b"<html>")
    begin(store)
    commit(
        uri,
        {
            "quarantine": "outputs/quarantine/quarantine.jsonl",
            "report": "outputs/report/report.html",
        },
        {"clips.train": 8.0, "clips.heldout": 2.0},
        summary={"videos": 11, "dropped": {"too_short": 1}, "quarantine": list(quarantine)},
        seconds=12.0,
    )
    run.note_step(StepRecord(name="prepare_data", key=key, cached=True))


def _write_failed(run: Run, key: str, reason: str) -> None:
    store = open_store(f"{run.root_uri}/{key}")
    begin(store)
    store.put_bytes("attempts/000001/logs/rank-0.log", b"step 7: loss nan\n")
    status = StepStatus(
        state="failed",
        generation=1,
        code=77,
        reason=reason,
        seconds=3.0,
        progress=Progress(done=7, total=20, unit="steps"),
    )
    store.put_bytes(status_key(1), status.to_bytes())
    run.note_step(StepRecord(name="train_spatial_vae", key=key, cached=False))


def set_running(run: Run, **elsewhere: str) -> RunStart:
    """Note a start by this very process, which runs; or one that differs in parts from it."""
    process = ProcessIdentity.of().model_copy(update=elsewhere)
    return run.begin(Start(process=process, started_at=time.time()), after=run.num_starts())
