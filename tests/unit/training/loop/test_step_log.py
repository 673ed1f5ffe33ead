"""What a rank tells of its steps: rows, and metrics that are served."""

from __future__ import annotations

import json
import time
from threading import Timer

import pytest
import torch

from kinetoscope.steps.rank_environment import RankEnvironment, free_port
from kinetoscope.telemetry.scrape import scrape
from kinetoscope.telemetry.training_metrics import TrainingMetrics
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.loop.config import TrainLoopConfig
from kinetoscope.training.loop.log import StepLog, report_gpu_memory
from kinetoscope.training.loop.outcome import StepOutcome
from kinetoscope.training.smoke.outlet import SmokeOutlet

CONFIG = TrainLoopConfig(num_steps=4, optimizer=OptimizerConfig(lr=1e-3), log_every_steps=2)


def new_log(outlet: SmokeOutlet, local_rank: int) -> StepLog:
    ranks = RankEnvironment(2, 0, 2, local_rank, "127.0.0.1", 1)
    return StepLog(CONFIG, ranks, TrainingMetrics("r", "s"), outlet, stop=lambda: False)


def take_step(log: StepLog, number: int, loss: float) -> None:
    log.waited(0.25)
    parts = {"kl": 2 * loss}
    outcome = StepOutcome(loss, loss, parts, num_samples=4, num_tokens=8, stop=False)
    log.stepped(number, outcome, lr=1e-3)


def told_by(local_rank: int) -> SmokeOutlet:
    """Take three steps of four; return what the outlet was told."""
    outlet = SmokeOutlet(local_rank)
    log = new_log(outlet, local_rank)
    log.begin(1, {})
    for number, loss in enumerate((3.0, 1.0, 2.0), start=1):
        take_step(log, number, loss)
    if outlet.metrics_url is not None:
        values = scrape(outlet.metrics_url)
        assert values["kino_train_steps_total"] == 3
        assert values["kino_stage_progress_ratio"] == 1
    log.close()
    return outlet


@pytest.mark.parametrize(("device", "kinds"), [("cuda:0", 3), ("cpu", 0)])
def test_a_gpus_memory_is_told(device: str, kinds: int) -> None:
    metrics = TrainingMetrics("r", "s")
    url = metrics.serve(0, "127.0.0.1")
    # Without a GPU, torch says that nothing of one is in use.
    report_gpu_memory(metrics, torch.device(device))
    told = [value for name, value in scrape(url).items() if name.startswith("kino_gpu_memory")]
    metrics.close()
    assert told == [0.0] * kinds


def finish(log: StepLog) -> float:
    """Return the seconds that the end of a training takes, which nobody scrapes."""
    began = time.monotonic()
    log.finished()
    return time.monotonic() - began


def test_the_end_of_a_short_training_waits_for_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINO_METRICS_PORT", str(free_port()))
    outlet = SmokeOutlet(0)
    log = new_log(outlet, 0)
    log.begin(0, {})
    take_step(log, 0, 1.0)
    url = outlet.metrics_url
    assert url is not None
    read = Timer(0.5, lambda: outlet.log_metrics(scrape(url), 0))
    read.start()
    assert 0.4 < finish(log) < 20
    read.join()
    assert outlet.rows[-1]["kino_train_steps_total"] == 1
    log.close()


def test_nobody_waits_where_prometheus_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    assert finish(new_log(SmokeOutlet(0), 0)) < 1
    monkeypatch.setenv("KINO_METRICS_PORT", str(free_port()))
    assert finish(new_log(SmokeOutlet(1), 1)) < 1, "this rank serves nothing"


def test_rows_are_means_over_their_window() -> None:
    first, second = told_by(0).rows
    assert first["train.loss"] == 3.0
    assert second["train.loss"] == second["train.grad_norm"] == 1.5
    assert second["train.kl"] == 3.0
    assert second["train.data_wait_seconds"] == 0.25
    assert 0 < second["train.step_seconds"] < 1
    assert second["train.learning_rate"] == pytest.approx(1e-3)
    assert second["train.samples_per_second"] > 0


def test_a_row_that_was_begun_before_a_save_is_finished_by_whoever_goes_on() -> None:
    first = SmokeOutlet(0)
    log = new_log(first, 0)
    log.begin(2, {})
    take_step(log, 2, 1.0)
    kept = json.loads(json.dumps(log.before_save()))
    log.close()
    second = SmokeOutlet(0)
    log = new_log(second, 0)
    log.begin(3, kept)
    take_step(log, 3, 2.0)
    log.close()
    assert (len(first.rows), len(second.rows)) == (0, 1)
    assert second.rows[0]["train.loss"] == 1.5
    assert second.rows[0]["train.kl"] == 3.0


def test_the_first_rank_of_a_machine_serves_metrics_and_says_where() -> None:
    assert str(told_by(0).metrics_url).startswith("http://127.0.0.1:")
    assert told_by(1).metrics_url is None
