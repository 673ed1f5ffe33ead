"""What of a run's config its compiled pipeline fixes: the steps, and the pods of tasks."""

from __future__ import annotations

import json
from typing import Any

from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import ConfigError
from kinetoscope.core.hashing import canonical_json
from kinetoscope.runs.steps import planned_steps, trains


def graph_of(config: RunConfig) -> str:
    """Return the graph of a config as JSON text: equal texts make equal pipelines.

    Training jobs' pods are no part of it: their launchers read the config.
    """
    graph: dict[str, Any] = {}
    for step in planned_steps(config):
        graph[step.name] = {"component": step.component, "inputs": step.inputs}
        if not trains(config, step.name):
            pod = config.cluster.task_pod(step.name)
            graph[step.name]["pod"] = pod.model_dump(mode="json", exclude_defaults=True)
    return canonical_json(graph)


def check_graph(config: RunConfig, graph: str) -> None:
    """Raise ``ConfigError`` where a config is for another pipeline than the one that runs.

    Args:
        config: that the run is to have.
        graph: of the pipeline, from `graph_of` of the config that it was compiled from.
    """
    own, compiled = json.loads(graph_of(config)), json.loads(graph)
    if own == compiled:
        return
    names = list(dict.fromkeys([*own, *compiled]))
    apart = [
        f"{name} ({_how(own, compiled, name)})"
        for name in names
        if own.get(name) != compiled.get(name)
    ]
    raise ConfigError(
        f"the config is for another pipeline than this one: they differ in {', '.join(apart)}",
        hint="kino run --on cluster compiles the pipeline of its config; kino compile writes it",
    )


def _how(own: dict[str, Any], compiled: dict[str, Any], name: str) -> str:
    if name not in compiled:
        return "only in the config"
    if name not in own:
        return "only in the pipeline"
    keys = own[name].keys() | compiled[name].keys()
    return ", ".join(sorted(key for key in keys if own[name].get(key) != compiled[name].get(key)))
