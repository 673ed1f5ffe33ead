"""Build the Kubeflow pipeline of a run from its config."""

# No postponed annotations here: kfp reads the pipeline function's as types.
from importlib import import_module
from pathlib import Path
from typing import Any

from kinetoscope.config.run import RunConfig
from kinetoscope.core.hashing import canonical_json, digest_json
from kinetoscope.pipelines.cluster.release import Release
from kinetoscope.pipelines.cluster.tasks import fit_light_task, fit_step
from kinetoscope.runs.steps import planned_steps, trains
from kinetoscope.runs.tasks.graph import graph_of


def build_pipeline(config: RunConfig, release: Release | None = None) -> Any:
    """Return the pipeline: a function for kfp's compiler or local runner.

    Its parameters, all of which may be left out but ``videos`` of a new run:

    - ``config``: the resolved config as JSON, or a URI of it; this one by default.
    - ``videos``: URI of the videos.
    - ``resume_of``: id of a run that goes on.
    - ``fresh``: names of steps to make anew, by commas.

    Tasks only follow each other: where the steps before have left what they made, the run's records
    say. Of a task whose driver was tried again Kubeflow knows two, and finds the output of neither.
    Its own caching is off everywhere: the step contract decides what is done.

    Args:
        config: the resolved config.
        release: of the chart that gives pods what they need; None on a laptop.
    """
    from kfp import dsl

    text, graph, steps = canonical_json(config.to_json()), graph_of(config), planned_steps(config)
    own_pods = {
        s.name: config.cluster.task_pod(s.name) for s in steps if not trains(config, s.name)
    }

    def prepare(task: Any, name: str) -> Any:
        task.set_display_name(name)
        task.set_caching_options(False)
        if release is not None and name in own_pods:
            fit_step(task, release, name, own_pods[name])
        elif release is not None:
            fit_light_task(task, release, name)
        return task

    @dsl.pipeline(
        name=f"kinetoscope-{config.name}",
        description="Raw videos in, a registered text-to-video model out.",
    )
    def pipeline(
        config: str = text, videos: str = "", resume_of: str = "", fresh: str = ""
    ) -> None:
        job = {"job_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        finish = prepare(_component("finish_run")(**job, resume_of=resume_of), "finish_run")
        with dsl.ExitHandler(finish, name="steps"):
            given = {"config": config, "videos": videos, "resume_of": resume_of, "fresh": fresh}
            begin = prepare(_component("begin_run")(**job, **given, graph=graph), "begin_run")
            done: dict[str, Any] = {}
            for step in steps:
                task = _component(step.component)(name=step.name, **job, resume_of=resume_of)
                upstream = [done[name] for name in dict.fromkeys(step.inputs.values())]
                done[step.name] = prepare(task, step.name).after(*(upstream or [begin]))

    return pipeline


def compile_pipeline(
    config: RunConfig, path: Path, release: Release, *, namespace: str | None = None
) -> None:
    """Write the pipeline as the YAML that a Kubeflow Pipelines backend takes.

    Args:
        config: of the runs.
        path: to write.
        release: of the chart that gives pods what they need.
        namespace: of Pipeline and PipelineVersion objects to write instead, for a backend that
            keeps its pipelines in Kubernetes.
    """
    from kfp.compiler import Compiler
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    pipeline = build_pipeline(config, release)
    if namespace is None:
        Compiler().compile(pipeline, str(path))
        return
    # A version by its content: one that changes is another one.
    graph = digest_json(pipeline_document(config, release)).removeprefix("sha256:")
    name = f"kinetoscope-{config.name}".replace(".", "-")
    options = KubernetesManifestOptions(
        pipeline_name=name,
        pipeline_version_name=f"{name}-{graph[:8]}",
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    Compiler().compile(
        pipeline, str(path), kubernetes_manifest_options=options, kubernetes_manifest_format=True
    )


def pipeline_document(config: RunConfig, release: Release) -> dict[str, Any]:
    """Return the pipeline as Kubeflow's API takes it: ``pipeline_spec`` and ``platform_spec``."""
    from google.protobuf import json_format

    pipeline = build_pipeline(config, release)
    return {
        "pipeline_spec": json_format.MessageToDict(pipeline.pipeline_spec),
        "platform_spec": json_format.MessageToDict(pipeline.platform_spec),
    }


def _component(name: str) -> Any:
    return getattr(import_module(f"kinetoscope_components.{name}.component"), name)
