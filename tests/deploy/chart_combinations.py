"""Combinations of the chart's values: every pair that makes sense, and what is refused."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chart_values import merged
from covering_array import covering_array
from rendering import MINIMAL
from values_schema import nest, values

DIGEST = "sha256:" + 64 * "0"

STRINGS: dict[str, list[Any]] = {
    "nameOverride": ["", "kino"],
    "labels.team": ["", "video", "Team_1.b", "42"],
    "images.registry": ["ghcr.io", "registry.example.org:5000/mirror"],
    "images.pullSecrets": [[], ["regcred"]],
    "images.trainer.digest": ["", DIGEST],
    "images.controlPlane.tag": ["", "1.2.3"],
    "objectStore.endpoint": ["https://s3.example.org", ""],
    "objectStore.existingSecret": ["object-store", ""],
    "objectStore.prefix": ["", "a", "team/a", "team/a/"],
    "objectStore.ca.existingConfigMap": ["", "private-ca"],
    "objectStore.devStore.persistence.existingClaim": ["", "store-data"],
    "mlflow.externalUri": ["", "https://mlflow.example.org"],
    "mlflow.auth.existingSecret": ["", "mlflow-login"],
    "mlflow.replicas": [1, 2],
    "mlflow.database.existingSecret": ["", "mlflow-database"],
    "mlflow.persistence.existingClaim": ["", "mlflow-data"],
    "mlflow.persistence.accessMode": ["ReadWriteOnce", "ReadWriteMany"],
    "monitoring.namespace": ["", "monitoring"],
    "networkPolicy.mlflowNamespaces": [[], ["ingress-nginx"]],
    "runNamespaces": [
        [{"name": "kubeflow", "serviceAccount": "pipeline-runner"}],
        [
            {"name": "kubeflow", "serviceAccount": "pipeline-runner"},
            {"name": "team-a", "serviceAccount": "default-editor"},
        ],
    ],
    "training.graceSeconds": [1, 600, 3600],
    "training.maxRestarts": [0, 1, 2, 10],
    "training.priorityClassName": ["", "training"],
    "training.tolerations": [[], [{"key": "nvidia.com/gpu", "operator": "Exists"}]],
    "training.extraEnv": [[], [{"name": "NCCL_DEBUG", "value": "INFO"}]],
}
"""Values that are neither booleans nor enumerations, with what they are tried with."""


@dataclass(frozen=True)
class Refusal:
    """Values that contradict each other.

    Attributes:
        settings: the contradiction, dotted name -> value.
        message: a pattern in the sentence that refuses it.
        given: what else must be set to come as far as this contradiction.
    """

    settings: Mapping[str, Any]
    message: str
    given: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())

    @property
    def values(self) -> dict[str, Any]:
        settings = {**self.given, **self.settings}
        return merged(MINIMAL, *(_nested(item) for item in settings.items()))


_STORE = "objectStore.devStore.enabled"
_KEYS = "objectStore.generateCredentials"
_OUR_KEYS = {"objectStore.existingSecret": "", _KEYS: True}
_OUR_STORE = {"objectStore.endpoint": "", _STORE: True}
_ENDPOINT = "https://s3.example.org"
_TWO_SERVERS = {"mlflow.enabled": True, "mlflow.replicas": 2}

REFUSED: list[Refusal] = [
    Refusal({"objectStore.endpoint": _ENDPOINT, _STORE: True}, "both set: leave objectStore.endp"),
    Refusal({"objectStore.endpoint": "", _STORE: False}, "no object store: set objectStore.endp"),
    Refusal({"objectStore.existingSecret": "object-store", _KEYS: True}, "both set: keep one"),
    Refusal({"objectStore.existingSecret": "", _KEYS: False}, "no S3 keys: set objectStore.exist"),
    Refusal({_KEYS: True, _STORE: False}, "which is not enabled: set", _OUR_KEYS),
    Refusal(
        {_STORE: True, "objectStore.ca.existingConfigMap": "private-ca"},
        "plain HTTP: clear objectStore.ca.existingConfigMap",
        _OUR_STORE,
    ),
    Refusal(
        {_STORE: True, "objectStore.addressing": "virtual"},
        "set objectStore.addressing to auto or path",
        _OUR_STORE,
    ),
    Refusal(
        {"mlflow.enabled": True, "mlflow.externalUri": "https://mlflow.example.org"},
        "set mlflow.enabled to false to use your own server",
    ),
    Refusal(
        {"mlflow.enabled": False, "mlflow.externalUri": ""},
        "no MLflow server: set mlflow.externalUri",
    ),
    Refusal(
        {"mlflow.enabled": True, "mlflow.auth.existingSecret": "mlflow-login"},
        "asks for no login: clear it",
    ),
    *(
        Refusal(
            {
                "mlflow.enabled": True,
                "mlflow.database.kind": kind,
                "mlflow.database.existingSecret": "",
            },
            f"mlflow.database.kind is {kind}: set mlflow.database.existingSecret",
        )
        for kind in ("postgresql", "mysql")
    ),
    Refusal(
        {
            "mlflow.enabled": True,
            "mlflow.database.kind": "sqlite",
            "mlflow.database.existingSecret": "mlflow-database",
        },
        "set mlflow.database.kind to postgresql or mysql, or clear",
    ),
    Refusal(
        {**_TWO_SERVERS, "mlflow.database.kind": "sqlite"},
        "mlflow.replicas is 2, but a sqlite file takes one server",
    ),
    Refusal(
        {
            **_TWO_SERVERS,
            "mlflow.artifacts.kind": "volume",
            "mlflow.persistence.accessMode": "ReadWriteOnce",
        },
        "the artifacts are on a volume of one node: set mlflow.artifacts.kind",
        {
            "mlflow.database.kind": "postgresql",
            "mlflow.database.existingSecret": "mlflow-database",
        },
    ),
]
"""What the chart refuses; no combination below holds one of these."""

REFUSED_OTHERWISE = [
    Refusal(
        {"objectStore.secretKeys": {"accessKey": "key", "secretKey": "key"}},
        "are both key: name two keys of the Secret",
    ),
    Refusal(
        {"runNamespaces": 2 * [{"name": "team-a", "serviceAccount": "default-editor"}]},
        "names team-a twice: keep one entry",
    ),
]
"""Refused as well, of values that no combination varies in this way."""


def choices() -> dict[str, list[Any]]:
    """Dotted name -> choices: every boolean and enumeration of the schema, and STRINGS."""
    found = {}
    for value in values():
        if value.node.get("type") == "boolean" and "const" not in value.node:
            found[str(value)] = [False, True]
        elif len(value.node.get("enum", [])) > 1:
            found[str(value)] = list(value.node["enum"])
    return found | STRINGS


@functools.cache
def pairwise_values() -> dict[str, dict[str, Any]]:
    """Values files that hold every allowed pair of choices. The names are stable for one schema.

    A test on a real cluster replaces `runNamespaces` by namespaces of its own.
    """
    rows = covering_array(choices(), [refusal.settings for refusal in REFUSED])
    return {
        f"pairwise-{number:02}": merged(*(_nested(item) for item in row.items()))
        for number, row in enumerate(rows, 1)
    }


def _nested(item: tuple[str, Any]) -> dict[str, Any]:
    return nest(tuple(item[0].split(".")), item[1])
