"""The steps of a run: the worker, piece of config, inputs and runtime of each."""

from __future__ import annotations

from dataclasses import dataclass

from kinetoscope.config.run import RunConfig
from kinetoscope.core.config_model import Config
from kinetoscope.core.errors import NotFoundError
from kinetoscope.evaluation.config import EvaluateDiTConfig, EvaluateVAEConfig, RegisterConfig
from kinetoscope.steps.contract import RuntimeConfig
from kinetoscope.training.dit.config import EncodeLatentsConfig, TrainDiTConfig
from kinetoscope.training.vae.config import TrainSpatialVAEConfig, TrainVAEConfig

# By component: the module that its ranks run, and the revision of its results, which is raised when
# the same config and inputs give others than in the version before.
_WORKERS = {
    "prepare_data": ("kinetoscope.data.prepare.step", 4),
    "train_spatial_vae": ("kinetoscope.training.vae.train_spatial_vae", 2),
    "train_vae": ("kinetoscope.training.vae.train_vae", 2),
    "evaluate_vae": ("kinetoscope.evaluation.evaluate_vae", 2),
    "encode_latents": ("kinetoscope.training.dit.encode_latents", 4),
    "train_dit": ("kinetoscope.training.dit.train_dit", 3),
    "evaluate_dit": ("kinetoscope.evaluation.evaluate_dit", 4),
    "register_model": ("kinetoscope.evaluation.register_model", 2),
}


@dataclass(frozen=True)
class RunStep:
    """One step of a run's pipeline.

    Args:
        name: unique in the run, e.g. ``train_vae_2``.
        component: name of the pipeline component that runs it, e.g. ``train_vae``.
        worker: module that its ranks run.
        revision: of its results.
        piece: its own config.
        inputs: names of upstream steps by input name.
        runtime: processes and threads.
    """

    name: str
    component: str
    worker: str
    revision: int
    piece: Config
    inputs: dict[str, str]
    runtime: RuntimeConfig


def planned_step(config: RunConfig, name: str) -> RunStep:
    """Return a step by name; raises ``NotFoundError``."""
    steps = {step.name: step for step in planned_steps(config)}
    if name not in steps:
        raise NotFoundError(f"the run has no step {name!r}; its steps are {sorted(steps)}")
    return steps[name]


def trains(config: RunConfig, name: str) -> bool:
    """Tell whether a step trains: on a cluster, in a job of its own that its task launches."""
    return any(stage.step == name for stage in config.stages())


def planned_steps(config: RunConfig) -> list[RunStep]:
    """Return the run's steps, each after all that it reads from."""
    steps = [_prepare_data(config), *_vae_steps(config)]
    vae = steps[-1].name
    steps += [_evaluate_vae(config, vae), _encode_latents(config, vae), *_dit_steps(config, vae)]
    dit = steps[-1].name
    steps += _final_steps(config, vae, dit)
    return steps


def _prepare_data(config: RunConfig) -> RunStep:
    return _step("prepare_data", config, config.prepare_data, {})


def _vae_steps(config: RunConfig) -> list[RunStep]:
    steps = []
    model = config.video_vae
    previous = {}
    if config.train_spatial_vae is not None:
        piece = TrainSpatialVAEConfig(model=model.spatial, **dict(config.train_spatial_vae))
        inputs = {"clips": "prepare_data"}
        steps.append(_step("train_spatial_vae", config, piece, inputs))
        previous = {"previous": "train_spatial_vae"}
    for number, stage in enumerate(config.train_vae, start=1):
        stage_piece = TrainVAEConfig(
            model=model,
            spatial_weights=config.spatial_weights if number == 1 else None,
            **dict(stage),
        )
        inputs = {"clips": "prepare_data", **previous}
        name = f"train_vae_{number}"
        steps.append(_step(name, config, stage_piece, inputs))
        previous = {"previous": name}
    return steps


def _evaluate_vae(config: RunConfig, vae: str) -> RunStep:
    piece = EvaluateVAEConfig(
        vae=config.models.vae, precision=config.models.precision, **dict(config.evaluate_vae)
    )
    return _step("evaluate_vae", config, piece, {"clips": "prepare_data", "vae": vae})


def _encode_latents(config: RunConfig, vae: str) -> RunStep:
    piece = EncodeLatentsConfig(
        model=config.models.vae,
        text_encoder=config.models.text_encoder,
        plans=tuple(
            stage.plan_for(config.models.dit, config.models.vae) for stage in config.train_dit
        ),
        **dict(config.encode_latents),
    )
    # The gate comes first: a poor VAE makes everything after it a waste.
    inputs = {"clips": "prepare_data", "vae": vae, "vae_evaluation": "evaluate_vae"}
    return _step("encode_latents", config, piece, inputs)


def _dit_steps(config: RunConfig, vae: str) -> list[RunStep]:
    steps = []
    previous: dict[str, str] = {}
    for number, stage in enumerate(config.train_dit, start=1):
        piece = TrainDiTConfig(
            model=config.models.dit,
            flow=config.models.flow,
            vae=config.models.vae,
            text_encoder=config.models.text_encoder,
            num_draws=config.encode_latents.num_draws,
            **dict(stage),
        )
        inputs = {"clips": "prepare_data", "vae": vae, "latents": "encode_latents", **previous}
        name = f"train_dit_{number}"
        steps.append(_step(name, config, piece, inputs))
        previous = {"previous": name}
    return steps


def _final_steps(config: RunConfig, vae: str, dit: str) -> list[RunStep]:
    generation = {
        **dict(config.models),
        "conditioning": config.prepare_data.conditioning,
        "clean_captions": config.prepare_data.captions.clean,
    }
    made = {"clips": "prepare_data", "vae": vae, "latents": "encode_latents", "dit": dit}
    evaluation = EvaluateDiTConfig(**generation, **dict(config.evaluate_dit))
    registration = RegisterConfig(**generation, **dict(config.register_model))
    judged = {"vae_evaluation": "evaluate_vae", "dit_evaluation": "evaluate_dit"}
    return [
        _step("evaluate_dit", config, evaluation, made),
        _step("register_model", config, registration, {**made, **judged}),
    ]


def _step(name: str, config: RunConfig, piece: Config, inputs: dict[str, str]) -> RunStep:
    component = name.rstrip("0123456789").rstrip("_")
    training = name.startswith("train_")
    runtime = config.runtimes.training if training else config.runtimes.other
    return RunStep(name, component, *_WORKERS[component], piece, inputs, runtime)
