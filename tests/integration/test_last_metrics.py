"""Any step, however short, lets Prometheus see its last values where that looks."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from tiny.mlflow_server import free_port
from tiny.steps import place_worker, ranks, start_supervisor, step_spec

from kinetoscope.core.errors import ExitCode, KinetoscopeError
from kinetoscope.steps.contract import StepSpec
from kinetoscope.steps.results import read_result, read_status
from kinetoscope.telemetry.scrape import scrape

WORKER = """
from kinetoscope.core.errors import UserError
from kinetoscope.steps.worker import Outputs, run_worker

def main(ctx):
    if ctx.rank:
        return None
    if ctx.config["fails"]:
        raise UserError("no")
    ctx.progress(1, 4, "clips")
    ctx.store.put_bytes("outputs/x", b"x")
    return Outputs({"x": "outputs/x"}, {"vae.psnr": 33.0})

if __name__ == "__main__":
    run_worker(main)
"""
LONG_AGO_SECONDS = 20


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    number = free_port()
    monkeypatch.setenv("KINO_METRICS_PORT", str(number))
    return number


def spec_of(tmp_path: Path, patch: pytest.MonkeyPatch, *, fails: bool = False) -> StepSpec:
    place_worker(tmp_path, patch, "short_worker", WORKER)
    root, config = (tmp_path / "objects").as_uri(), {"fails": fails}
    return step_spec("evaluate_vae", "short_worker", root, config, runtime=ranks(2))


def committed(spec: StepSpec, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while read_result(spec.uri) is None:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


def seconds_to_end(process: subprocess.Popen[bytes]) -> float:
    began = time.monotonic()
    assert process.wait(60) == ExitCode.DONE
    return time.monotonic() - began


def test_what_a_short_step_found_is_served_until_it_was_read(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tmp_path, monkeypatch)
    process = start_supervisor(spec)
    committed(spec, process)
    time.sleep(3)
    assert process.poll() is None
    status = read_status(spec.uri)
    assert status is not None
    assert status.metrics_url == f"http://127.0.0.1:{port}/metrics"
    assert scrape(status.metrics_url) == {
        "kino_run_info": 1.0,
        "kino_stage_progress_ratio": 1.0,
        'kino_eval_score{metric="vae.psnr"}': 33.0,
    }
    assert seconds_to_end(process) < 10
    with pytest.raises(KinetoscopeError, match="no metrics"):
        scrape(status.metrics_url)


def test_a_step_that_is_told_to_stop_waits_no_more(
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = spec_of(tmp_path, monkeypatch)
    process = start_supervisor(spec)
    committed(spec, process)
    process.terminate()
    began = time.monotonic()
    process.wait(60)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("what", ["on a laptop", "where the port is taken", "when it failed"])
def test_nobody_waits(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kinetoscope.telemetry.step_metrics import StepMetrics

    spec = spec_of(tmp_path, monkeypatch, fails=what == "when it failed")
    with StepMetrics("r", "another") as other:
        if what == "where the port is taken":
            number = free_port()
            other.serve(number)
            monkeypatch.setenv("KINO_METRICS_PORT", str(number))
        if what == "when it failed":
            monkeypatch.setenv("KINO_METRICS_PORT", str(free_port()))
        began = time.monotonic()
        process = start_supervisor(spec)
        process.wait(60)
    assert time.monotonic() - began < LONG_AGO_SECONDS
