"""The training steps, one after the other, on real clips and real records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny.ledgers import begin
from tiny.models import transformer, video_vae
from tiny.steps import ranks, step_spec

from kinetoscope.checkpoints.read import read_checkpoint
from kinetoscope.checkpoints.retention import list_checkpoints
from kinetoscope.core.errors import ConfigError, DivergedError, PreemptedError
from kinetoscope.core.hashing import digest_json
from kinetoscope.data.latents.format import tensors_key
from kinetoscope.data.latents.reader import LatentReader, read_index
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.weights.open_sora.export import export_open_sora_transformer
from kinetoscope.steps.contract import StepResult, StepSpec
from kinetoscope.steps.execute import execute
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.steps.results import read_result
from kinetoscope.steps.worker import Outputs, StepContext
from kinetoscope.storage.open import open_store
from kinetoscope.training.dit import encode_latents, train_dit
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.vae import train_spatial_vae, train_vae

ROOT = Path(__file__).resolve().parents[2]
VAE = video_vae(shift=(0.0,) * 4, scale=(1.0,) * 4).to_json()
LOSS = {
    "l1_weight": 0.2,
    "mse_weight": 1.0,
    "kl_weight": 1e-4,
    "perceptual_weight": 0,
    "reduction": "mean",
}
TEXT = {"kind": "seeded_table", "width": 16, "max_tokens": 8}
DIT = transformer(
    width=32,
    text_width=16,
    max_text_tokens=8,
    predict_sigma=False,
    temporal_position="rope+sincos",
)
BUCKETS = {
    "buckets": [{"resolution": {"height": 32, "width": 32}, "num_frames": 9, "batch_size": 2}]
}
CLIPS = {"num_frames": 9, "height": 32, "width": 32, "batch_size": 2}


ENCODE = {
    "model": VAE,
    "text_encoder": TEXT,
    "plans": [{"buckets": BUCKETS, "cost_ranks": [0], "micro_batches_per_step": 1}],
    "num_draws": 2,
    "normalization": "measured",
    "items_per_shard": 4,
}
ENCODE_INPUTS = ("clips", "vae=train_vae_3")


def loop(num_steps: int, **changes: Any) -> dict[str, Any]:
    return {
        "num_steps": num_steps,
        "optimizer": {"lr": 1e-3},
        "checkpoint_every_steps": 3,
        "log_every_steps": 2,
    } | changes


class Workplace:
    """Runs workers' ``main`` in this process, on a workspace with committed clips."""

    def __init__(self, path: Path, clips_uri: str) -> None:
        self.root_uri = (path / "objects").as_uri()
        self.path = path
        self.attempts = 0
        self.uris = {"clips": clips_uri}

    def spec(self, name: str, config: dict[str, Any], inputs: tuple[str, ...]) -> StepSpec:
        room = "vae" if "vae" in name else "dit"
        return step_spec(
            name,
            f"kinetoscope.training.{room}.{name.rstrip('_0123456789')}",
            self.root_uri,
            config,
            seed=3,
            inputs={source.split("=")[0]: self.uris[source.split("=")[-1]] for source in inputs},
            fingerprint=digest_json([name, config])[7:23],
            runtime=ranks(2),
        )

    def context(
        self, name: str, config: dict[str, Any], inputs: tuple[str, ...], *, world_size: int = 1
    ) -> StepContext:
        self.attempts += 1
        spec = self.spec(name, config, inputs)
        attempt = self.path / f"attempt-{self.attempts}"
        store = open_store(spec.uri)
        generation = begin(store)
        ranks = RankEnvironment(world_size, 0, world_size, 0, "127.0.0.1", 29500)
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in ranks.variables(0).items():
                patch.setenv(variable, value)
            return StepContext(spec, generation=generation, attempt_path=attempt)

    def run(
        self, worker: Any, name: str, config: dict[str, Any], inputs: tuple[str, ...]
    ) -> StepResult:
        ctx = self.context(name, config, inputs)
        outputs: Outputs = worker.main(ctx)
        ctx.commit(outputs)
        self.uris[name] = ctx.uri
        result = read_result(ctx.uri)
        assert result is not None
        return result

    def rows(self, attempt: int) -> list[dict[str, Any]]:
        text = (self.path / f"attempt-{attempt}" / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory, commit_clips: Callable[[Path], str]
) -> Iterator[Workplace]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("work")
    yield Workplace(path, commit_clips(path))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vae(work: Workplace) -> StepResult:
    """All stages of the VAE, from the spatial VAE on."""
    work.run(
        train_spatial_vae,
        "train_spatial_vae",
        {
            "model": VAE["spatial"],
            "loss": LOSS,
            "plan": CLIPS | {"num_frames": 1},
            "loop": loop(30),
        },
        ("clips",),
    )
    base = {"model": VAE, "loss": LOSS, "loop": loop(4)}
    mix = CLIPS | {"lengths": "image_mix", "image_probability": 0.5, "image_batch_size": 3}
    first = {"objective": "spatial_latents", "identity_loss": True, "plan": mix}
    work.run(train_vae, "train_vae_1", base | first, ("clips", "previous=train_spatial_vae"))
    second = {"objective": "spatial_latents", "freeze_spatial": False, "plan": CLIPS}
    work.run(train_vae, "train_vae_2", base | second, ("clips", "previous=train_vae_1"))
    lengths = CLIPS | {"lengths": "random", "frames_per_batch": 9}
    third = {"objective": "pixels", "freeze_spatial": False, "plan": lengths}
    return work.run(train_vae, "train_vae_3", base | third, ("clips", "previous=train_vae_2"))


@pytest.fixture(scope="module")
def latents(work: Workplace, vae: StepResult) -> StepResult:
    return work.run(encode_latents, "encode_latents", ENCODE, ENCODE_INPUTS)


def _weights(work: Workplace, step: str) -> dict[str, torch.Tensor]:
    result = read_result(work.uris[step])
    assert result is not None
    uri = result.artifact_uri("checkpoint")
    return read_checkpoint(open_store(uri), groups=["weights"]).tensors["weights"]


def test_every_stage_commits_the_whole_vae_and_keeps_what_is_frozen(
    work: Workplace, vae: StepResult
) -> None:
    spatial = _weights(work, "train_spatial_vae")
    stages = [_weights(work, f"train_vae_{number}") for number in (1, 2, 3)]
    assert all(stage.keys() == stages[0].keys() for stage in stages)
    assert {"shift", "scale"} < stages[0].keys()
    prefix = "spatial_vae.module."
    name = "encoder.conv_in.weight"
    assert torch.equal(stages[0][prefix + name], spatial[name])
    assert not torch.equal(stages[1][prefix + name], spatial[name])
    assert not torch.equal(stages[2][prefix + "decoder.conv_out.weight"], spatial[name])
    assert vae.metrics["train.steps"] == 4


def test_the_spatial_vaes_loss_falls(work: Workplace, vae: StepResult) -> None:
    rows = work.rows(1)
    assert [row["step"] for row in rows] == list(range(2, 31, 2))
    losses = [row["metrics"]["train.loss"] for row in rows]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert {"train.reconstruction", "train.kl", "train.grad_norm"} <= rows[0]["metrics"].keys()
    assert all(0 < row["metrics"]["train.step_seconds"] < 60 for row in rows)


def test_images_report_an_identity_loss(work: Workplace, vae: StepResult) -> None:
    named = [name for row in work.rows(2) for name in row["metrics"]]
    assert "train.identity" in named


def test_checkpoints_are_kept_as_configured(work: Workplace, vae: StepResult) -> None:
    kept = list_checkpoints(open_store(vae.uri))
    assert [prefix.split("-")[1] for prefix in kept] == ["00000003", "00000004"]


def test_latents_hold_both_draws_and_are_normalised_as_measured(latents: StepResult) -> None:
    reader = LatentReader(open_store(latents.artifact_uri("latents")))
    assert len(reader) > 7
    sampled = []
    for number in range(len(reader)):
        sample = reader.read(number)
        noise = torch.randn(sample.mean.shape, generator=torch.Generator().manual_seed(number))
        sampled.append(sample.mean + (0.5 * sample.logvar).exp() * noise)
    z = torch.stack(sampled)
    normal = (z - reader.shift[None, :, None, None, None]) / reader.scale[:, None, None, None]
    assert normal.mean(dim=(0, 2, 3, 4)).abs().max() < 0.2
    assert (normal.std(dim=(0, 2, 3, 4)) - 1).abs().max() < 0.2
    assert sample.text.shape == (8, 16)


def test_encoding_goes_on_with_the_missing_shards(work: Workplace, latents: StepResult) -> None:
    config = ENCODE | {"items_per_shard": 3}
    first = work.context("encode_latents", config, ENCODE_INPUTS)
    encode_latents.main(first)
    folder = open_store(f"{first.uri}/outputs/latents")
    shards = [tensors_key(record) for record in read_index(folder).shards[:2]]
    paths = [Path(str(folder.local_path(shard))) for shard in shards]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    first.store.delete("outputs/latents/shards/00001.json")
    first.store.delete("outputs/latents/index.json")
    encode_latents.main(work.context("encode_latents", config, ENCODE_INPUTS))
    after = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    assert after[0] == before[0]
    assert after[1][0] == before[1][0]
    assert after[1][1] > before[1][1]
    assert first.store.stat("outputs/latents/index.json") is not None


def test_a_stopped_encoding_says_how_far_it_is(work: Workplace, latents: StepResult) -> None:
    ctx = work.context("encode_latents", ENCODE | {"items_per_shard": 2}, ENCODE_INPUTS)
    ctx.request_stop()
    with pytest.raises(PreemptedError, match="0 of"):
        encode_latents.main(ctx)


def _dit(**changes: Any) -> dict[str, Any]:
    config = {
        "model": DIT.to_json(),
        "flow": {"base_size_px": 64},
        "vae": VAE,
        "text_encoder": TEXT,
        "plan": BUCKETS,
        "num_draws": 2,
        "loop": loop(9, ema_decay=0.9),
    }
    return config | changes


INPUTS = ("clips", "vae=train_vae_3", "latents=encode_latents")


def test_a_dit_stage_trains_on_the_cache_and_the_next_goes_on_from_it(
    work: Workplace, latents: StepResult
) -> None:
    result = work.run(train_dit, "train_dit_1", _dit(), INPUTS)
    checkpoint = read_checkpoint(open_store(result.artifact_uri("checkpoint")))
    assert checkpoint.tensors.keys() == {"weights", "optimizer", "ema"}
    assert checkpoint.tensors["ema"].keys() == checkpoint.tensors["weights"].keys()
    assert checkpoint.state.step == 9
    assert checkpoint.state.epoch >= 2
    assert checkpoint.state.lineage.keys() == {"clips", "latents", "vae"}
    small = _dit(loop=loop(1, optimizer={"lr": 1e-9}))
    work.run(train_dit, "train_dit_2", small, (*INPUTS, "previous=train_dit_1"))
    torch.testing.assert_close(
        _weights(work, "train_dit_2"), dict(checkpoint.tensors["weights"]), atol=1e-7, rtol=0
    )


@pytest.mark.parametrize("layout", ["stdit", "pixart"])
def test_a_dit_stage_starts_from_a_file_of_others(
    work: Workplace, latents: StepResult, tmp_path: Path, layout: str
) -> None:
    model = DIT.model_copy(update={"temporal_position": "rope"})
    given = initialised(lambda: STDiT(model), "given")
    path = tmp_path / layout
    if layout == "stdit":
        export_open_sora_transformer(given, path, max_shard_bytes=10_000)
        kept = set(given.state_dict())
    else:
        pairs = {
            name: f"blocks.{name.removeprefix('spatial_blocks.')}"
            for name in given.state_dict()
            if name.startswith("spatial_blocks.") and "_norm" not in name
        }
        plain = ("x_embedder", "t_embedder", "t_block", "y_embedder", "final_layer")
        pairs |= {name: name for name in given.state_dict() if name.startswith(plain)}
        torch.save({"state_dict": {pairs[k]: given.state_dict()[k] for k in pairs}}, path)
        kept = set(pairs)
    config = _dit(loop=loop(1, optimizer={"lr": 1e-30}), init_weights=str(path))
    work.run(train_dit, "train_dit_1", config, INPUTS)
    trained = _weights(work, "train_dit_1")
    assert kept <= trained.keys()
    start = {name: given.state_dict()[name] for name in kept}
    found = {name: trained[name] for name in kept}
    torch.testing.assert_close(found, start, atol=1e-20, rtol=0)

    other = config | {"init_format": "pixart" if layout == "stdit" else "stdit"}
    with pytest.raises(ConfigError, match=r"do not fit STDiT|not PixArt's"):
        train_dit.main(work.context("train_dit_1", other, INPUTS))


def test_a_dit_stage_trains_from_clips_without_a_cache(
    work: Workplace, latents: StepResult
) -> None:
    cached = work.run(train_dit, "train_dit_1", _dit(loop=loop(2)), INPUTS)
    clips = work.run(train_dit, "train_dit_1", _dit(loop=loop(2), use_cache=False), INPUTS)
    # The same plan, draws and normalisation: the cache changes rounding, not the samples.
    assert clips.metrics["train.loss"] == pytest.approx(cached.metrics["train.loss"], rel=1e-3)


def test_ranks_that_share_samples_train_as_one(
    work: Workplace, latents: StepResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An eps that makes steps follow the size of gradients, even of those that are but rounding.
    short = _dit(loop=loop(3, optimizer={"lr": 1.0, "eps": 1.0}, grad_clip=None))
    alone = work.run(train_dit, "train_dit_1", short, INPUTS)
    expected = _weights(work, "train_dit_1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "platform"))
    spec = work.spec("train_dit_1", short | {"sequence_parallel": 2}, INPUTS)
    shared = execute(spec)
    work.uris["train_dit_1"] = spec.uri
    assert shared.metrics["train.loss"] == pytest.approx(alone.metrics["train.loss"], rel=1e-5)
    torch.testing.assert_close(_weights(work, "train_dit_1"), expected, atol=1e-5, rtol=1e-4)


def test_what_is_cached_needs_no_text_encoder(work: Workplace, latents: StepResult) -> None:
    nowhere = {"kind": "t5", "path": str(work.path / "nowhere"), "width": 16, "max_tokens": 8}
    config = _dit(text_encoder=nowhere, loop=loop(1))
    assert train_dit.main(work.context("train_dit_1", config, INPUTS)) is not None
    with pytest.raises(ConfigError, match="no T5 encoder"):
        train_dit.main(work.context("train_dit_1", config | {"use_cache": False}, INPUTS))


def test_a_loss_that_is_not_finite_stops_before_the_optimizer(
    work: Workplace, latents: StepResult
) -> None:
    config = _dit(loop=loop(20, optimizer={"lr": 1e18}, grad_clip=None, checkpoint_every_steps=1))
    ctx = work.context("train_dit_1", config, INPUTS)
    with pytest.raises(DivergedError, match="step"):
        train_dit.main(ctx)
    checkpoints = list_checkpoints(ctx.store)
    assert checkpoints
    weights = read_checkpoint(ctx.store, checkpoints[-1], groups=["weights"]).tensors["weights"]
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_a_stop_saves_the_step_in_progress(work: Workplace, latents: StepResult) -> None:
    config = _dit(loop=loop(7, ema_decay=0.9, checkpoint_every_steps=100))
    ctx = work.context("train_dit_1", config, INPUTS)
    ctx.request_stop()
    with pytest.raises(PreemptedError, match="step 1 of 7 is saved"):
        train_dit.main(ctx)
    stopped = list_checkpoints(ctx.store)
    assert [prefix.split("-")[1] for prefix in stopped] == ["00000001"]
    resumed = work.run(train_dit, "train_dit_1", config, INPUTS)
    rows = work.rows(work.attempts)
    assert rows[-1]["step"] == 7
    assert resumed.metrics["train.steps"] == 7


def test_ranks_that_can_not_share_a_step_are_refused(work: Workplace, latents: StepResult) -> None:
    config = _dit(loop=loop(2, micro_batches_per_step=3))
    ctx = work.context("train_dit_1", config, INPUTS, world_size=2)
    with pytest.raises(ConfigError, match=r"\[1, 3\]"):
        train_dit.main(ctx)
    shared = work.context("train_dit_1", config | {"sequence_parallel": 2}, INPUTS, world_size=3)
    with pytest.raises(ConfigError, match="groups of sequence_parallel=2"):
        train_dit.main(shared)
