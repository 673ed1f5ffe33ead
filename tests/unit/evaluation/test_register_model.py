"""The step register_model, with a real registry (sqlite)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kinetoscope.core.settings import tracking_uri, workspace
from kinetoscope.data.video.files import write_video
from kinetoscope.evaluation import evaluate_dit, register_model
from kinetoscope.evaluation.config import (
    AdherenceConfig,
    EvaluateDiTConfig,
    Gate,
    RegisterConfig,
    RFLossConfig,
)
from kinetoscope.evaluation.sampling import CLIP_CRF
from kinetoscope.inference.bundle import load_bundle
from kinetoscope.inference.config import ClipRequest, ClipSize, GenerationConfig
from kinetoscope.inference.pipeline import TextToVideo
from kinetoscope.inference.registered import open_version
from kinetoscope.steps.worker import StepContext
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.tracker import Tracker

# Of MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def evaluate(training: Any, models: GenerationConfig) -> list[dict[str, Any]]:
    training.commit("vae_evaluation", "evaluate_vae", {}, {"vae.psnr": 31.0})
    piece = EvaluateDiTConfig(
        **dict(models),
        rf_loss=RFLossConfig(sizes=(ClipSize(num_frames=5),)),
        adherence=AdherenceConfig(num_clips=2, num_untrained=0, num_per_heldout=0),
    )
    ctx = training.context("evaluate_dit", piece)
    training.finish("evaluate_dit", "dit_evaluation", evaluate_dit.main(ctx))
    rows = ctx.store.get_bytes("outputs/samples/clips.jsonl").splitlines()
    return [json.loads(row) for row in rows]


def register(ctx: StepContext) -> dict[str, Any]:
    outputs = register_model.main(ctx)
    assert outputs is not None
    return outputs.summary


def test_a_model_is_registered_once_promoted_and_generates_from_its_version_alone(
    finished_training: Any, models: GenerationConfig, tmp_path: Path
) -> None:
    clips = evaluate(finished_training, models)
    tracked = Tracker(tracking_uri(), workspace().artifacts_path).open_run("raaaaaaa", name="n")
    piece = RegisterConfig(**dict(models), model_name="toy")
    ctx = finished_training.context("register_model", piece)
    told = register(ctx)
    assert told["promoted"]
    assert told["reason"] == "there was no champion"
    assert set(told["aliases"]) == {"candidate", "champion"}
    stored = ctx.store.get_bytes("outputs/model/model.json").decode()
    assert json.loads(stored)["scores"]["vae.psnr"] == 31.0
    assert json.loads(stored)["bundle_key"].startswith("models/toy/")
    assert str(tmp_path) not in stored

    again = register(ctx)
    assert (again["version"], again["aliases"]) == (told["version"], told["aliases"])

    registry = ModelRegistry(tracking_uri())
    (version,) = [version for version in registry.list_models() if version.name == "toy"]
    assert version.tags["kinetoscope.dev/run"] == "raaaaaaa"
    assert version.tags["kinetoscope.dev/parent.dit"].startswith("sha256:")
    assert version.scores["adherence.clips"] == 2
    assert registry._client.get_model_version("toy", version.version).run_id == tracked

    samples = tmp_path / "objects" / "steps" / "evaluate_dit" / "0" / "outputs" / "samples"
    wanted = (samples / clips[1]["path"]).read_bytes()
    shutil.rmtree(tmp_path / "objects" / "steps")
    pipeline = TextToVideo(load_bundle(open_version(version, ctx.root_store), tmp_path))
    request = ClipRequest(prompt=clips[1]["prompt"], seed=clips[1]["seed"])
    write_video(tmp_path / "again.mp4", pipeline.generate(request), 8.0, crf=CLIP_CRF)
    assert (tmp_path / "again.mp4").read_bytes() == wanted


def test_a_model_that_fails_a_gate_stays_a_candidate(
    finished_training: Any, models: GenerationConfig
) -> None:
    evaluate(finished_training, models)
    gates = (Gate(metric="vae.psnr", min=40),)
    piece = RegisterConfig(**dict(models), model_name="gated", gates=gates)
    told = register(finished_training.context("register_model", piece))
    assert told["aliases"] == ["candidate"]
    assert not told["promoted"]
    assert "vae.psnr is 31, at least 40" in told["reason"]
