"""What a real API server says of the chart's objects."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import installed
import pytest
from chart_combinations import pairwise_values
from rendering import ci_values, render

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUM_COMBINATIONS = 30


@pytest.fixture(scope="module")
def own_namespace(cluster: object) -> Iterator[str]:
    name = installed.make_namespace("kino-objects")
    yield name
    installed.delete_namespace(name)


@pytest.mark.parametrize("values", sorted(ci_values()))
def test_every_object_passes_a_server_side_dry_run(values: str, own_namespace: str) -> None:
    given = ci_values()[values] | {"runNamespaces": _runs(own_namespace)}
    if values == "default":
        given |= ci_values()["external-store-values"] | {"runNamespaces": _runs(own_namespace)}
    objects = render(given, namespace=own_namespace).objects
    assert "PodSecurity" not in _apply(objects, own_namespace, "--dry-run=server")


def test_combinations_of_values_apply(own_namespace: str) -> None:
    combinations = itertools.islice(pairwise_values().items(), _NUM_COMBINATIONS)
    for name, values in combinations:
        given = values | {"runNamespaces": _runs(own_namespace)}
        objects = render(given, release=name, namespace=own_namespace).objects
        assert "PodSecurity" not in _apply(objects, own_namespace), name
        _delete(objects, own_namespace)


def _runs(namespace: str) -> list[dict[str, str]]:
    return [{"name": namespace, "serviceAccount": installed.RUNNER}]


def _apply(objects: Any, namespace: str, *options: str) -> str:
    """Apply objects and return what the API server warned of."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl = installed.program("kubectl")
    command = (kubectl, "apply", "--server-side", "-n", namespace, *options, "-f", "-")
    done = installed.run(*command, given_input=text)
    assert done.returncode == 0, done.stderr
    return done.stderr


def _delete(objects: Any, namespace: str) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    options = ("-n", namespace, "--wait=false", "--ignore-not-found")
    installed.kubectl("delete", *options, "-f", "-", given_input=text)
