"""Build the Kubeflow pipeline of a run from its config."""

# No postponed annotations here: kfp reads the pipeline function's as types.
from importlib import import_module
from pathlib import Path
from typing import Any

from kinetoscope.config.run import RunConfig
from kinetoscope.runs.steps import planned_steps


def build_pipeline(config: RunConfig, *, image: str | None = None) -> Any:
    """Return the pipeline: a function of ``run_uri`` for kfp's compiler or local runner.

    Tasks follow each other through the URIs that they return; bulk data stays in the object store.
    kfp's own caching is off everywhere: the step contract decides what is done.

    Args:
        config: the resolved config.
        image: container image of all steps; not needed on a laptop.
    """
    from kfp import dsl

    def prepare(task: Any, display_name: str) -> Any:
        task.set_display_name(display_name)
        task.set_caching_options(False)
        if image:
            task.set_container_image(image)
        return task

    @dsl.pipeline(
        name=f"kinetoscope-{config.name}",
        description="Raw videos in, a registered text-to-video model out.",
    )
    def pipeline(run_uri: str) -> None:
        done: dict[str, Any] = {}
        finish = prepare(_component("finish_run")(run_uri=run_uri), "finish_run")
        with dsl.ExitHandler(finish, name="steps"):
            for step in planned_steps(config):
                inputs = {key: done[upstream].output for key, upstream in step.inputs.items()}
                task = _component(step.component)(run_uri=run_uri, name=step.name, **inputs)
                done[step.name] = prepare(task, step.name)

    return pipeline


def compile_pipeline(config: RunConfig, path: Path, *, image: str | None = None) -> None:
    """Write the pipeline as the YAML that a Kubeflow Pipelines backend takes."""
    from kfp import compiler

    compiler.Compiler().compile(build_pipeline(config, image=image), str(path))


def _component(name: str) -> Any:
    return getattr(import_module(f"kinetoscope_components.{name}.component"), name)
