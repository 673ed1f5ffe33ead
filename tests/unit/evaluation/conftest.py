"""A finished training of tiny models on a small synthetic set, without the training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.write import write_checkpoint
from kinetoscope.core.config_model import Config
from kinetoscope.data.clip_table import ClipRow, write_clip_table
from kinetoscope.data.config import SynthConfig
from kinetoscope.data.latents.format import LatentEntry, LatentSample
from kinetoscope.data.latents.writer import LatentWriter
from kinetoscope.data.synthetic.draw import combinations, synthesize
from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.inference.config import ClipSize, GenerationConfig
from kinetoscope.models.base import build_autoencoder, build_transformer
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.text.config import SeededTableConfig
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.steps.contract import RESULT_KEY, Artifact, StepResult, StepSpec
from kinetoscope.steps.worker import Outputs, StepContext
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

VAE = VideoVAEConfig(
    spatial=SpatialVAEConfig(block_widths=(8, 8, 8), layers_per_block=1, norm_groups=4),
    temporal=TemporalVAEConfig(
        base_width=8,
        multipliers=(1, 1, 1),
        num_res_blocks=1,
        temporal_downsample=(True, True),
        norm_groups=4,
    ),
)
MODELS = GenerationConfig(
    vae=VAE,
    dit=STDiTConfig(
        depth=1, width=16, num_heads=2, text_width=8, max_text_tokens=16, input_sq_size=32
    ),
    text_encoder=SeededTableConfig(width=8),
    flow=RectifiedFlowConfig(base_size_px=32),
    sampler=SamplerConfig(num_steps=2, guidance=2.0),
    sample_size=ClipSize(num_frames=5),
    sample_fps=8.0,
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
        store = self.store(step)
        described = {
            artifact: Artifact(uri=join_uri(store.uri, key), digest=f"sha256:{key}", size_bytes=1)
            for artifact, key in artifacts.items()
        }
        result = StepResult(
            step=step,
            fingerprint="0",
            generation=1,
            uri=store.uri,
            artifacts=described,
            metrics=metrics,
        )
        store.put_bytes(RESULT_KEY, result.to_bytes())
        self.inputs[name] = store.uri

    def context(self, name: str, piece: Config) -> StepContext:
        spec = StepSpec(
            name=name,
            worker=f"kinetoscope.evaluation.{name}",
            run_id="raaaaaaa",
            root_uri=self.root_uri,
            config=piece.to_json(),
            seed=7,
            inputs=self.inputs,
            fingerprint="0",
        )
        open_store(spec.uri).put_bytes("attempts/000001.json", b"{}")
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
    vae = build_autoencoder(VAE).state_dict()
    _train(training, "vae", {"weights": vae})
    _encode_latents(training)
    dit = build_transformer(MODELS.dit)
    # Not the initial weights, so that a mix-up of the two groups shows.
    ema = {name: torch.randn_like(value) * 0.1 for name, value in dit.state_dict().items()}
    _train(training, "dit", {"weights": dit.state_dict(), "ema": ema})
    return training


def _prepare_data(training: FinishedTraining, tmp_path: Path) -> None:
    config = SynthConfig(num_clips=NUM_CLIPS, num_frames=5, size_px=32)
    paths = synthesize(tmp_path / "videos", config)
    rows = []
    for number, (path, shown) in enumerate(zip(paths, combinations(config), strict=True)):
        row = ClipRow(
            clip_id=f"clip-{number}",
            source_id=path.name,
            video_uri=str(path),
            start_frame=0,
            num_frames=5,
            fps=8.0,
            height=32,
            width=32,
            caption=shown.caption,
            text=shown.caption,
            motion_score=float(number),
            quality_score=0.5,
            split="heldout" if number < 3 else "train",
            group=number,
            digest="",
        )
        rows.append(row)
    table = tmp_path / "clips.parquet"
    write_clip_table(table, rows)
    training.store("prepare_data").put_file("outputs/clips.parquet", table)
    training.commit("clips", "prepare_data", {"clips": "outputs/clips.parquet"}, {})


def _train(
    training: FinishedTraining, name: str, tensors: dict[str, dict[str, torch.Tensor]]
) -> None:
    prefix = write_checkpoint(
        training.store(name),
        tensors=tensors,
        state=CheckpointState(step=1),
        generation=1,
        check_fence=lambda: None,
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
