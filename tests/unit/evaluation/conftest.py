"""A finished training of tiny models on a small synthetic set, without the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny.clips import synthetic_rows, write_clips
from tiny.ledgers import begin
from tiny.models import VIDEO_VAE, transformer
from tiny.steps import commit, step_spec

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.write import Author, write_checkpoint
from kinetoscope.core.config_model import Config
from kinetoscope.data.latents.format import LatentEntry, LatentSample
from kinetoscope.data.latents.writer import LatentWriter
from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.inference.config import ClipSize, GenerationConfig
from kinetoscope.models.base import build_autoencoder, build_transformer
from kinetoscope.models.text.config import SeededTableConfig
from kinetoscope.steps.worker import Outputs, StepContext
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

MODELS = GenerationConfig(
    vae=VIDEO_VAE,
    dit=transformer(input_sq_size=32),
    text_encoder=SeededTableConfig(width=8),
    flow=RectifiedFlowConfig(base_size_px=32),
    sampler=SamplerConfig(num_steps=2, guidance=2.0),
    sample_size=ClipSize(num_frames=5),
)
NUM_CLIPS = 12


class FinishedTraining:
    """A workspace in which everything before evaluation is done."""

    def __init__(self, root: Path) -> None:
        self.root_uri = (root / "objects").as_uri()
        self._scratch = root / "scratch"
        self.inputs: dict[str, str] = {}

    def store(self, step: str) -> ObjectStore:
        return open_store(f"{self.root_uri}/steps/{step}/0")

    def commit(
        self, name: str, step: str, artifacts: dict[str, str], metrics: dict[str, float]
    ) -> None:
        uri = self.store(step).uri
        commit(uri, artifacts, metrics)
        self.inputs[name] = uri

    def context(self, name: str, piece: Config) -> StepContext:
        worker = f"kinetoscope.evaluation.{name}"
        config = piece.to_json()
        spec = step_spec(name, worker, self.root_uri, config, seed=7, inputs=self.inputs)
        begin(open_store(spec.uri))
        return StepContext(spec, generation=1, attempt_path=self._scratch / name)

    def finish(self, name: str, input_name: str, outputs: Outputs) -> None:
        self.commit(input_name, name, outputs.artifacts, outputs.metrics)


@pytest.fixture
def finished_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FinishedTraining:
    for variable, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(variable, value)
    training = FinishedTraining(tmp_path)
    _prepare_data(training, tmp_path)
    torch.manual_seed(0)
    vae = build_autoencoder(VIDEO_VAE).state_dict()
    _train(training, "vae", {"weights": vae})
    _encode_latents(training)
    dit = build_transformer(MODELS.dit)
    # Not the initial weights, so that a mix-up of the two groups shows.
    ema = {name: torch.randn_like(value) * 0.1 for name, value in dit.state_dict().items()}
    _train(training, "dit", {"weights": dit.state_dict(), "ema": ema})
    return training


def _prepare_data(training: FinishedTraining, tmp_path: Path) -> None:
    rows = synthetic_rows(tmp_path / "videos", num_clips=NUM_CLIPS, num_frames=5, heldout=range(3))
    rows = [replace(row, scores={"motion": float(row.group), "quality": 0.5}) for row in rows]
    step = tmp_path / "objects/steps/prepare_data/0"
    artifacts = write_clips(step, tmp_path / "videos", rows)
    training.commit("clips", "prepare_data", artifacts, {})


def _train(
    training: FinishedTraining, name: str, tensors: dict[str, dict[str, torch.Tensor]]
) -> None:
    prefix, _ = write_checkpoint(
        training.store(name),
        tensors=tensors,
        state=CheckpointState(step=1),
        author=Author(),
    )
    training.commit(name, name, {"checkpoint": prefix}, {})


def _encode_latents(training: FinishedTraining) -> None:
    training.store("latents").put_bytes("outputs/placeholder", b"")
    entry = LatentEntry(clip_id="clip-3", start_frame=0, num_frames=5, height=32, width=32, fps=8.0)
    store = open_store(f"{training.store('latents').uri}/outputs/latents")
    writer = LatentWriter(store, [entry], items_per_shard=1)
    latent = torch.zeros(4, 2, 8, 8)
    text = torch.zeros(16, 8)
    sample = LatentSample(latent, latent, text, torch.ones(16, dtype=torch.bool))
    writer.write_shard(0, [sample])
    writer.commit(normalization=([0.1, 0.2, 0.3, 0.4], [1.5, 2.5, 3.5, 4.5]))
    training.commit("latents", "latents", {"latents": "outputs/latents"}, {})


@pytest.fixture
def models() -> GenerationConfig:
    return MODELS
