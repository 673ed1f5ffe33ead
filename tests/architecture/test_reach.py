"""What each step's worker can reach: a change there makes the step run again."""

from __future__ import annotations

import pytest

from kinetoscope.config.load import load_config
from kinetoscope.core.code_version import reachable_modules
from kinetoscope.runs.identity import modules_of_step
from kinetoscope.runs.steps import planned_steps

BASE = {"core", "steps", "steps.ledger", "storage", "storage.s3", "telemetry"}
CLIPS = BASE | {"artifacts", "data", "data.sources", "data.video"}
VAE = {"models", "models.conv", "models.vae"}
TRAINING = CLIPS | {
    "checkpoints",
    "data.plan",
    "diffusion",
    "training",
    "training.engine",
    "training.loop",
}
MODELS = {"checkpoints", "diffusion", "models.text", "models.weights"}
TRANSFORMER = MODELS | {"models.layers", "models.stdit", "models.weights.open_sora"}
SCORES = {"data.scorers"}
LATENTS = {"data.latents", "inference", "training.dit"}
ROOMS = {
    "prepare_data": BASE
    | {"data", "data.captions", "data.prepare", "data.report", "data.scorers", "data.sources"}
    | {"data.duplicates", "data.shots", "data.text", "data.video"},
    # Weights of others (layouts) only where a stage can start from them.
    "train_spatial_vae": TRAINING | VAE | {"models.vae.adversarial", "training.vae"},
    "train_vae_1": TRAINING
    | VAE
    | {"models.vae.adversarial", "training.vae"}
    | {"models.weights", "models.weights.open_sora"},
    "evaluate_vae": CLIPS | SCORES | VAE | MODELS | {"evaluation", "inference"},
    "encode_latents": TRAINING | SCORES | VAE | MODELS | LATENTS,
    "train_dit_1": TRAINING | SCORES | VAE | TRANSFORMER | LATENTS,
    "evaluate_dit": CLIPS
    | SCORES
    | VAE
    | TRANSFORMER
    | {"data.latents", "data.synthetic", "data.text", "evaluation", "inference"},
    "register_model": BASE
    | VAE
    | TRANSFORMER
    | {"artifacts", "data", "data.latents", "data.scorers", "data.sources"}
    | {"evaluation", "inference", "tracking", "tracking.runs"},
}


@pytest.mark.parametrize("name", ROOMS)
def test_a_worker_reaches_these_rooms(name: str) -> None:
    assert {_room(module) for module in _modules(name)} == ROOMS[name]


@pytest.mark.parametrize("name", ["train_spatial_vae", "train_vae_1", "evaluate_vae"])
def test_a_changed_transformer_leaves_the_vae_alone(name: str) -> None:
    rooms = ("models.stdit", "models.layers", "training.dit", "data.latents")
    assert [module for module in _modules(name) if _room(module) in rooms] == []


def test_the_spatial_vae_depends_on_no_text_and_no_conversion_of_weights() -> None:
    rooms = ("models.text", "models.weights", "data.text", "inference", "evaluation")
    assert [module for module in _modules("train_spatial_vae") if _room(module) in rooms] == []


@pytest.mark.parametrize(
    ("name", "counts"), [("prepare_data", True), ("encode_latents", True), ("train_vae_1", False)]
)
def test_scorers_count_where_scores_are_used(name: str, counts: bool) -> None:
    assert ("kinetoscope.data.scorers.motion" in _modules(name)) == counts


def _modules(name: str) -> set[str]:
    steps = {step.name: step for step in planned_steps(load_config("smoke").config)}
    step = steps[name]
    return reachable_modules(*modules_of_step(step))


def _room(module: str) -> str:
    return ".".join(module.split(".")[1:-1])
