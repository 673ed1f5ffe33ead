"""Values that the tests render with, and what a rendering leaves to the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from invariants import Shipped
from rendering import NAMESPACE, Object, Rendering

_CLUSTER_WIDE = {"ClusterTrainingRuntime"}
_LISTS_OF_NAMES = ("pullSecrets", "extraVolumes", "runNamespaces")
_OWNERS = {
    "team": "kinetoscope.dev/team",
    "project": "kinetoscope.dev/project",
    "costCenter": "kinetoscope.dev/cost-center",
}


def shipped_by(rendering: Rendering, *, namespace: str = NAMESPACE) -> Shipped:
    """The rendered objects as `helm install -n NAMESPACE` would create them."""
    run_namespaces = [item["name"] for item in rendering.values["runNamespaces"]]
    labels = rendering.values["labels"]
    return Shipped(
        objects=[_placed(item, namespace) for item in rendering.objects],
        external=frozenset(_external(rendering.values)),
        run_namespaces=run_namespaces,
        owner_labels={_OWNERS[key]: value for key, value in labels.items() if value},
    )


def merged(*values: Mapping[str, Any]) -> dict[str, Any]:
    """Values files on top of each other, as Helm merges them: maps key by key, the rest whole."""
    result: dict[str, Any] = {}
    for more in values:
        for key, value in more.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def _placed(item: Object, namespace: str) -> Object:
    if item["kind"] in _CLUSTER_WIDE:
        return item
    return item | {"metadata": {"namespace": namespace} | item["metadata"]}


def _external(value: object, key: str = "") -> Iterator[str]:
    """Names of what the user makes: values named existing..., pull secrets, extra volumes."""
    if isinstance(value, Mapping):
        for inner_key, inner in value.items():
            yield from _external(inner, key if key in _LISTS_OF_NAMES else inner_key)
    elif isinstance(value, list):
        for inner in value:
            yield from _external(inner, key)
    elif isinstance(value, str) and (key.startswith("existing") or key in _LISTS_OF_NAMES):
        yield value
