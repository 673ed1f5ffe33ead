from __future__ import annotations

import time

import pytest

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.telemetry.scrape import parse_metrics, scrape
from kinetoscope.telemetry.step_metrics import DataMetrics, StepMetrics
from kinetoscope.telemetry.training_metrics import StepFigures, TrainingMetrics

FIGURES = StepFigures(
    seconds=0.3,
    data_wait_seconds=0.1,
    num_samples=32,
    num_tokens=640,
    losses={"total": 0.75, "reconstruction": 0.5},
    grad_norm=1.5,
    learning_rate=2e-3,
)

# The contract with dashboards and alerts.
TRAINING_SERIES = {
    "kino_run_info",
    "kino_stage_progress_ratio",
    "kino_train_loss",
    "kino_train_step_seconds",
    "kino_train_steps",
    "kino_train_samples",
    "kino_train_tokens",
    "kino_train_grad_norm",
    "kino_train_learning_rate",
    "kino_train_data_wait_seconds",
    "kino_train_rank_imbalance_ratio",
    "kino_train_nonfinite",
    "kino_train_goodput_ratio",
    "kino_train_last_step_timestamp_seconds",
    "kino_checkpoint_seconds",
    "kino_checkpoint_last_success_timestamp_seconds",
    "kino_checkpoint_bytes",
    "kino_gpu_memory_bytes",
}


def test_a_training_step_is_seen_from_outside() -> None:
    with TrainingMetrics("rabc", "train_dit_1", info={"recipe": "tiny"}) as metrics:
        url = metrics.serve()
        before = time.time()
        for _ in range(3):
            metrics.step(FIGURES)
        metrics.progress(0.25)
        metrics.checkpoint({"write": 0.5}, num_bytes=1000)
        values = scrape(url)
    assert url.startswith("http://127.0.0.1:")
    assert values['kino_train_loss{kind="total"}'] == 0.75
    assert values['kino_train_loss{kind="reconstruction"}'] == 0.5
    assert values["kino_train_steps_total"] == 3
    assert values["kino_train_samples_total"] == 96
    assert values["kino_train_tokens_total"] == 1920
    assert values["kino_train_data_wait_seconds_total"] == pytest.approx(0.3)
    assert values["kino_train_step_seconds_count"] == 3
    assert values["kino_train_step_seconds_sum"] == pytest.approx(0.9)
    assert values["kino_train_learning_rate"] == 2e-3
    assert values["kino_stage_progress_ratio"] == 0.25
    assert values['kino_checkpoint_seconds{phase="write"}'] == 0.5
    assert values["kino_checkpoint_bytes"] == 1000
    assert values["kino_train_last_step_timestamp_seconds"] >= before
    assert values['kino_run_info{recipe="tiny"}'] == 1


def test_names_and_labels_are_those_of_the_contract() -> None:
    metrics = TrainingMetrics("rabc", "train_dit_1")
    metrics.step(FIGURES)
    metrics.progress(1.0)
    metrics.checkpoint({"write": 1.0}, num_bytes=1)
    metrics.rank_imbalance(1.1)
    metrics.goodput(0.9)
    metrics.gpu_memory("peak", 10)
    families = list(metrics.registry.collect())
    assert {family.name for family in families} == TRAINING_SERIES
    for family in families:
        for sample in family.samples:
            assert sample.labels["run"] == "rabc"
            assert sample.labels["stage"] == "train_dit_1"
            assert set(sample.labels) <= {"run", "stage", "kind", "phase", "le"}


def test_what_was_never_measured_is_absent_and_counters_begin_at_zero() -> None:
    with TrainingMetrics("rabc", "train_dit_1") as metrics:
        values = scrape(metrics.serve())
        metrics.nonfinite()
        after = scrape(metrics_url(metrics))
    assert "kino_train_goodput_ratio" not in values
    assert "kino_train_grad_norm" not in values
    assert values["kino_train_nonfinite_total"] == 0
    assert after["kino_train_nonfinite_total"] == 1


def metrics_url(metrics: StepMetrics) -> str:
    metrics.close()
    return metrics.serve()


def test_two_stages_in_one_process_do_not_meet() -> None:
    one, two = TrainingMetrics("rabc", "a"), TrainingMetrics("rabc", "b")
    with one, two:
        one.step(FIGURES)
        assert scrape(one.serve())["kino_train_steps_total"] == 1
        assert scrape(two.serve())["kino_train_steps_total"] == 0


def test_data_has_its_own() -> None:
    with DataMetrics("rabc", "prepare_data") as data:
        data.clips("kept", count=5)
        data.clips("quarantined", "truncated")
        counted = scrape(data.serve())
        assert counted['kino_data_clips_total{outcome="kept",reason=""}'] == 5
        assert counted['kino_data_clips_total{outcome="quarantined",reason="truncated"}'] == 1


def test_a_process_that_has_ended_is_told() -> None:
    metrics = StepMetrics("rabc", "a")
    url = metrics.serve()
    metrics.close()
    metrics.close()
    with pytest.raises(KinetoscopeError, match=url):
        scrape(url)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", ""])
def test_other_urls_are_not_opened(url: str) -> None:
    with pytest.raises(KinetoscopeError, match="no metrics URL"):
        scrape(url)


def test_text_that_is_no_metrics_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid metric name"):
        parse_metrics("<html> hello\n")


def test_recording_a_step_costs_little() -> None:
    metrics = TrainingMetrics("rabc", "a")
    started = time.perf_counter()
    for _ in range(200):
        metrics.step(FIGURES)
    assert (time.perf_counter() - started) / 200 < 3e-3
