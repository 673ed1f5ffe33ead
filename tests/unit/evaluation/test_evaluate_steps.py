"""The evaluation steps, run in this process on tiny models with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.core.errors import GateError, PreemptedError
from kinetoscope.data.video.files import read_video, write_video
from kinetoscope.evaluation import evaluate_dit, evaluate_vae
from kinetoscope.evaluation.config import (
    AdherenceConfig,
    EvaluateDiTConfig,
    EvaluateVAEConfig,
    Gate,
    RFLossConfig,
)
from kinetoscope.evaluation.sampling import CLIP_CRF
from kinetoscope.evaluation.trained_model import trained_bundle
from kinetoscope.inference.config import ClipRequest, ClipSize, GenerationConfig
from kinetoscope.inference.pipeline import TextToVideo
from kinetoscope.steps.worker import Outputs, StepContext

SIZE = ClipSize(num_frames=5)


def vae_piece(models: GenerationConfig, *gates: Gate) -> EvaluateVAEConfig:
    return EvaluateVAEConfig(vae=models.vae, size=SIZE, gates=gates)


def dit_piece(models: GenerationConfig, **changes: Any) -> EvaluateDiTConfig:
    adherence = AdherenceConfig(num_clips=4, num_untrained=1, num_per_heldout=0)
    values = {"rf_loss": RFLossConfig(sizes=(SIZE,)), "adherence": adherence} | changes
    return EvaluateDiTConfig(**dict(models), **values)


def evaluated(outputs: Outputs | None) -> Outputs:
    assert outputs is not None
    return outputs


def local_file(ctx: StepContext, key: str) -> Path:
    path = ctx.store.local_path(key)
    assert path is not None
    return path


def clip_rows(ctx: StepContext) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in ctx.store.get_bytes("outputs/samples/clips.jsonl").splitlines()
    ]


def test_the_vae_is_measured_on_every_held_out_clip(
    finished_training: Any, models: GenerationConfig
) -> None:
    ctx = finished_training.context("evaluate_vae", vae_piece(models))
    outputs = evaluated(evaluate_vae.main(ctx))
    stored = json.loads(ctx.store.get_bytes("outputs/metrics/metrics.json"))
    assert outputs.metrics == stored["metrics"]
    assert [row["clip_id"] for row in stored["clips"]] == ["clip-0", "clip-1", "clip-2"]
    mean = np.mean([row["psnr"] for row in stored["clips"]])
    assert outputs.metrics["vae.psnr"] == pytest.approx(mean)
    assert "not measured" in outputs.summary["lpips"]
    grid, _ = read_video(local_file(ctx, "outputs/grid/reconstructions.mp4"))
    assert len(grid) == 5


def test_the_vae_is_measured_in_the_precision_asked_for(
    finished_training: Any, models: GenerationConfig
) -> None:
    measured = []
    for precision in ("auto", "fp32", "bf16"):
        piece = vae_piece(models).model_copy(update={"precision": precision})
        ctx = finished_training.context("evaluate_vae", piece)
        measured.append(evaluated(evaluate_vae.main(ctx)).metrics["vae.psnr"])
    assert measured[0] == measured[1] != measured[2]
    assert measured[1] == pytest.approx(measured[2], abs=0.1)


def test_a_poor_vae_is_refused_with_its_value_and_the_threshold(
    finished_training: Any, models: GenerationConfig
) -> None:
    gates = (Gate(metric="vae.ssim", min=1), Gate(metric="vae.psnr", min=60, max=70))
    ctx = finished_training.context("evaluate_vae", vae_piece(models, *gates))
    with pytest.raises(GateError, match=r"ssim is .*at least 1 .*vae\.psnr is \d.*at least 60"):
        evaluate_vae.main(ctx)


def test_clips_are_stored_with_prompt_seed_and_reading(
    finished_training: Any, models: GenerationConfig
) -> None:
    ctx = finished_training.context("evaluate_dit", dit_piece(models))
    outputs = evaluated(evaluate_dit.main(ctx))
    rows = clip_rows(ctx)
    assert [row["kind"] for row in rows] == ["trained"] * 4 + ["untrained"]
    assert outputs.metrics["adherence.clips"] == 4
    assert len({row["seed"] for row in rows}) == 5
    paths = [local_file(ctx, f"outputs/samples/{row['path']}") for row in rows]
    assert all(read_video(path)[0].shape == (5, 32, 32, 3) for path in paths)
    assert set(rows[0]["read"]) == {"shape", "color", "motion"}
    assert {"rf_loss.mean", "rf_loss.5x32x32"} <= outputs.metrics.keys()
    assert ctx.store.stat("outputs/samples/sample.mp4")


def test_a_clip_is_what_the_bundle_generates_for_its_prompt_and_seed(
    finished_training: Any, models: GenerationConfig, tmp_path: Path
) -> None:
    piece = dit_piece(models)
    ctx = finished_training.context("evaluate_dit", piece)
    evaluate_dit.main(ctx)
    table = open_clips(ctx.inputs["clips"], ctx.videos)
    pipeline = TextToVideo(trained_bundle(ctx.inputs, table, piece))
    row = clip_rows(ctx)[2]

    def generated(seed: int) -> bytes:
        path = tmp_path / "again.mp4"
        frames = pipeline.generate(ClipRequest(prompt=row["prompt"], seed=seed))
        write_video(path, frames, 8.0, crf=CLIP_CRF)
        return path.read_bytes()

    stored = local_file(ctx, f"outputs/samples/{row['path']}").read_bytes()
    assert generated(row["seed"]) == stored
    assert generated(row["seed"] + 1) != stored


def test_a_second_attempt_makes_just_the_missing_clip_and_the_same_one(
    finished_training: Any, models: GenerationConfig
) -> None:
    ctx = finished_training.context("evaluate_dit", dit_piece(models))
    first = evaluated(evaluate_dit.main(ctx))
    lost = local_file(ctx, "outputs/samples/trained-0001.mp4")
    kept = local_file(ctx, "outputs/samples/trained-0002.mp4")
    before, written = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    second = evaluated(evaluate_dit.main(ctx))
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == written
    assert second.metrics == first.metrics


def test_a_stop_keeps_the_finished_clips(finished_training: Any, models: GenerationConfig) -> None:
    ctx = finished_training.context("evaluate_dit", dit_piece(models))
    evaluate_dit.main(ctx)
    local_file(ctx, "outputs/samples/trained-0003.mp4").unlink()
    ctx.request_stop()
    with pytest.raises(PreemptedError):
        evaluate_dit.main(ctx)
    assert ctx.store.stat("outputs/samples/trained-0002.mp4")


def test_without_adherence_samples_show_held_out_captions(
    finished_training: Any, models: GenerationConfig
) -> None:
    piece = dit_piece(models, adherence=None, num_samples=2)
    ctx = finished_training.context("evaluate_dit", piece)
    outputs = evaluated(evaluate_dit.main(ctx))
    assert [row["kind"] for row in clip_rows(ctx)] == ["sample", "sample"]
    assert not [name for name in outputs.metrics if name.startswith("adherence")]
    assert "not measured" in outputs.summary["adherence"]


def test_the_bundle_carries_averaged_weights_and_the_latents_normalisation(
    finished_training: Any, models: GenerationConfig
) -> None:
    ctx = finished_training.context("evaluate_dit", dit_piece(models))
    table = open_clips(ctx.inputs["clips"], ctx.videos)
    conditioned = models.model_copy(update={"conditioning": ("motion",)})
    bundle = trained_bundle(ctx.inputs, table, conditioned)
    # The latents' own shift and scale, on top of the autoencoder's.
    shift, scale = np.array(models.vae.shift), np.array(models.vae.scale)
    assert bundle.spec.vae.shift == pytest.approx(shift + scale * [0.1, 0.2, 0.3, 0.4])
    assert bundle.vae["scale"].flatten().tolist() == pytest.approx(scale * [1.5, 2.5, 3.5, 4.5])
    assert float(bundle.dit["final_layer.linear.weight"].abs().max()) > 0
    assert bundle.spec.scores == {"motion": np.median(np.arange(3.0, 12.0))}
