from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from tiny.models import HALVING_VAE
from torch import Tensor
from torch.optim import AdamW

from kinetoscope.core.errors import CorruptError
from kinetoscope.models.vae.adversarial.config import PatchDiscriminatorConfig
from kinetoscope.models.vae.adversarial.discriminators import build_discriminator
from kinetoscope.models.vae.adversarial.losses import discriminator_loss, generator_loss
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.steps.rank_environment import ALONE
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.vae.adversary import Adversary, start_adversary
from kinetoscope.training.vae.config import AdversarialConfig, TrainVAEConfig
from kinetoscope.training.vae.objective import VideoVAEObjective

PATCH = {"kind": "patch2d", "base_width": 8, "num_layers": 1}
STYLE = {"kind": "style3d", "base_width": 4, "multipliers": [1], "norm_groups": 2}
LR = 2e-3
EPS = 1e-3
"""So large that rounding does not decide the steps of parameters without a gradient."""


def _config(adversarial: dict[str, Any] | None, **stage: Any) -> TrainVAEConfig:
    defaults = {
        "model": HALVING_VAE,
        "objective": "pixels",
        "freeze_spatial": False,
        "loss": {"perceptual_weight": 0, "kl_weight": 1e-4, "reduction": "mean"},
        "adversarial": adversarial,
        "plan": {"num_frames": 4, "height": 8, "width": 8},
        "loop": {"num_steps": 1, "optimizer": {"lr": LR}},
    }
    return TrainVAEConfig.model_validate(defaults | stage)


def _objective(config: TrainVAEConfig) -> VideoVAEObjective:
    adversary = start_adversary(config.adversarial, 0) if config.adversarial else None
    return VideoVAEObjective(initialised(lambda: VideoVAE(config.model), 0), config, adversary)


def _engine(objective: VideoVAEObjective) -> TorchDDPEngine:
    engine = TorchDDPEngine(ALONE, dtype="fp32")
    engine.prepare(objective, OptimizerConfig(lr=LR, eps=EPS))
    return engine


def _clips(num_samples: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(num_samples, 3, 4, 8, 8, generator=generator).clamp(-1, 1)
    return {"pixels": pixels, "noise": torch.randn(num_samples, 4, 2, 4, 4, generator=generator)}


def _train(
    engine: TorchDDPEngine, num_steps: int, clip: float | None = None
) -> list[dict[str, float]]:
    rows = []
    for _ in range(num_steps):
        values = engine.forward_backward(_clips(), scale=1 / 2, last=True)
        engine.clip_gradients(clip)
        engine.step(LR)
        rows.append({name: float(value.mean()) for name, value in values.items()})
    return rows


def test_one_backward_trains_both_as_two_optimizers_do() -> None:
    config = _config({"discriminator": PATCH, "adaptive": False, "lr": 3 * LR})
    one, two = _objective(config), _objective(config)
    engine = _engine(one)
    assert two.adversary is not None
    discriminator = two.adversary.discriminator
    for_model = AdamW(two.model.parameters(), lr=LR, eps=EPS, weight_decay=0)
    for_judge = AdamW(discriminator.parameters(), lr=3 * LR, eps=EPS, weight_decay=0)
    clips = _clips()
    for _ in range(3):
        _train(engine, 1)
        posterior = two.model.encode_time(two.model.encode_frames(clips["pixels"]))
        frames = two.model.decode_time(posterior.sample(clips["noise"]), 4)
        decoded = two.model.decode_frames(frames)
        terms = two.losses(decoded, clips["pixels"], posterior)
        game = 0.5 * generator_loss(discriminator(decoded), "hinge")
        for_model.zero_grad()
        (sum(terms.values()).mean() + game).backward()
        real, fake = discriminator(clips["pixels"]), discriminator(decoded.detach())
        for_judge.zero_grad()
        discriminator_loss(real, fake, "hinge").backward()
        for_model.step()
        for_judge.step()
    assert one.adversary is not None
    expected = dict(discriminator.named_parameters()) | dict(two.model.named_parameters())
    found = dict(one.adversary.discriminator.named_parameters())
    found |= dict(one.model.named_parameters())
    for name, parameter in expected.items():
        torch.testing.assert_close(found[name], parameter, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("discriminator", [PATCH, STYLE])
def test_the_discriminator_learns_and_the_generator_is_taught(
    discriminator: dict[str, Any],
) -> None:
    game = {"discriminator": discriminator, "lecam_weight": 0.01, "lr": 10 * LR}
    objective = _objective(_config(game))
    objective(_clips())["generator"].mean().backward()
    gradients = [p.grad for p in objective.model.parameters() if p.grad is not None]
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    assert objective.adversary is not None
    assert all(p.grad is None for p in objective.adversary.parameters())
    objective.zero_grad()
    rows = _train(_engine(objective), 15)
    assert rows[-1]["discriminator"] < 0.9 * rows[0]["discriminator"]
    assert rows[0].keys() == {
        "loss", "reconstruction", "kl", "generator", "discriminator", "lecam"
    }  # fmt: skip
    terms = [value for name, value in rows[0].items() if name != "loss"]
    assert rows[0]["loss"] == pytest.approx(sum(terms))


def test_the_adaptive_game_pulls_at_the_last_layer_as_hard_as_the_reconstruction() -> None:
    objective = _objective(_config({"discriminator": PATCH, "generator_factor": 1.0}))
    terms = objective(_clips())
    layer = objective.model.temporal_vae.decoder.conv_out.conv.weight
    norms = [
        float(torch.autograd.grad(terms[name].mean(), layer, retain_graph=True)[0].norm())
        for name in ("reconstruction", "generator")
    ]
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def test_before_its_first_step_the_game_changes_nothing() -> None:
    waiting = _objective(_config({"discriminator": PATCH, "start_step": 2}))
    alone = _objective(_config(None))
    assert waiting.adversary is not None
    judge = {name: t.clone() for name, t in waiting.adversary.state_dict().items()}
    engine, beside = _engine(waiting), _engine(alone)
    for step in (0, 1):
        waiting.step = step
        assert _train(engine, 1) == _train(beside, 1)
    assert all(torch.equal(t, judge[name]) for name, t in waiting.adversary.state_dict().items())
    waiting.step = 2
    assert "generator" in _train(engine, 1)[0]
    assert any(
        not torch.equal(t, judge[name]) for name, t in waiting.adversary.state_dict().items()
    )


def test_the_generators_look_leaves_the_running_statistics_alone() -> None:
    objective = _objective(_config({"discriminator": PATCH}))
    assert objective.adversary is not None
    objective(_clips())
    batches = objective.adversary.discriminator.get_buffer("main.3.num_batches_tracked")
    assert batches.item() == 2


def test_clipping_is_per_player() -> None:
    engine = _engine(_objective(_config({"discriminator": PATCH})))
    engine.forward_backward(_clips(), scale=1000.0, last=True)
    engine.clip_gradients(1.0)
    assert float(engine.clip_gradients(None)) == pytest.approx(2**0.5, rel=1e-3)


def test_imported_state_goes_on_bit_for_bit() -> None:
    game = {"discriminator": PATCH, "lecam_weight": 0.1, "gradient_penalty_weight": 1.0, "lr": LR}
    loss = {"perceptual_weight": 0, "learn_logvar": True}
    config = _config(game, loss=loss)
    first, resumed = _engine(_objective(config)), _engine(_objective(config))
    _train(first, 3, clip=1.0)
    saved = {
        group: {name: tensor.clone() for name, tensor in tensors.items()}
        for group, tensors in first.export_state().items()
    }
    assert saved.keys() == {"weights", "optimizer", "adversary", "logvar"}
    assert saved["logvar"]["value"] != 0
    assert saved["adversary"]["losses.averages.real"] != 0
    resumed.import_state(saved)
    assert _train(first, 3, clip=1.0) == _train(resumed, 3, clip=1.0)
    found = resumed.export_state()
    for group, tensors in first.export_state().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, found[group][name]), (group, name)


def test_it_starts_from_a_file_inflated_where_it_must_be(tmp_path: Path) -> None:
    flat = PatchDiscriminatorConfig(base_width=8, num_layers=1)
    path = tmp_path / "judge.safetensors"
    save_file(build_discriminator(flat).state_dict(), path)
    solid = {"kind": "patch3d", "base_width": 8, "num_layers": 1}
    config = AdversarialConfig.model_validate({"discriminator": solid, "weights": str(path)})
    kernel = start_adversary(config, 0).discriminator.get_parameter("main.0.weight")
    assert [bool(part.any()) for part in kernel.unbind(2)] == [False, False, True, False]
    other = AdversarialConfig.model_validate({"discriminator": STYLE, "weights": str(path)})
    with pytest.raises(CorruptError, match="do not fit StyleDiscriminator"):
        start_adversary(other, 0)


def test_its_weights_depend_on_the_key_alone() -> None:
    config = AdversarialConfig.model_validate({"discriminator": PATCH})

    def weight(seed: int) -> Tensor:
        adversary: Adversary = start_adversary(config, "train_vae_1", seed)
        return adversary.discriminator.get_parameter("main.0.weight")

    assert torch.equal(weight(1), weight(1))
    assert not torch.equal(weight(1), weight(2))


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"objective": "spatial_latents"}, "adversarial needs objective='pixels'"),
        ({"plan": {"num_frames": 5, "height": 4, "width": 8}}, r"needs clips of \(1, 6, 6\)"),
        ({"adversarial": {"discriminator": PATCH | {"kind": "patch3d"}}}, "patch3d"),
        (
            {
                "adversarial": {"discriminator": PATCH | {"kind": "patch3d"}},
                "plan": {"num_frames": 17, "height": 8, "width": 8, "lengths": "image_mix"},
            },
            r"may have \(1, 8, 8\)",
        ),
    ],
)
def test_stages_that_can_not_play_are_refused(stage: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        _config(**({"adversarial": {"discriminator": PATCH}} | stage))
