"""Reading a golden set: ``index.json``, tensor files (safetensors) and tables (JSON).

Tensor files hold ``weights/<state-dict key>``, ``in/<case>/<name>`` and ``out/<case>/<name>`` (a
file of a single case leaves ``<case>/`` out) and a JSON ``config`` in their metadata. Some tell in
``bf16_error/<case>/<name>`` how far the reference's own bfloat16 run was off its float32 run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kinetoscope.core.errors import ConfigError, NotFoundError

INDEX = "index.json"
SINGLE_CASE = ""
"""Name of the case of a file that has only one."""

OTHER_DEVICE_SLACK = 4.0
"""How many times as far off a device other than the CPU may be."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """When two tensors count as equal: either rule is enough.

    Attributes:
        atol: with ``rtol``: ``|a - b| <= atol + rtol |b|`` for every element, as long as the error
            is small beside the tensor's largest value (`compare.tensor_error`).
        rtol: see ``atol``.
        relative_to_max: ``max |a - b| <= relative_to_max * max |b|``; None: this rule is not there.
    """

    atol: float = 0.0
    rtol: float = 0.0
    relative_to_max: float | None = None

    def times(self, factor: float) -> Tolerance:
        """Return the tolerance multiplied by a factor."""
        relative = self.relative_to_max
        return Tolerance(
            self.atol * factor,
            self.rtol * factor,
            None if relative is None else relative * factor,
        )


@dataclass(frozen=True, slots=True)
class GoldenFile:
    """One file of a set.

    Attributes:
        name: of the file.
        kind: of the family.
        config: how the reference was built and called; ``config["cases"]`` where cases differ.
        tolerances: by kind of output (``out``, ``grad``).
        tensors: of a tensor file, by full name.
        data: of a JSON file, else empty.
        device: where the tensors are, and models and outputs belong.
    """

    name: str
    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def on(self, device: torch.device) -> GoldenFile:
        """Return the file with its tensors on a device.

        Off the CPU, where the reference ran, sums have another order: tolerances are
        `OTHER_DEVICE_SLACK` times as large there.
        """
        slack = 1.0 if device.type == "cpu" else OTHER_DEVICE_SLACK
        return replace(
            self,
            tolerances={kind: rule.times(slack) for kind, rule in self.tolerances.items()},
            tensors={name: tensor.to(device) for name, tensor in self.tensors.items()},
            device=device,
        )

    @property
    def weights(self) -> dict[str, Tensor]:
        """The reference's state dict."""
        return _below("weights/", self.tensors)

    @property
    def cases(self) -> list[str]:
        """Names of the cases, those of the config first, in its order."""
        names: dict[str, None] = dict.fromkeys(self.config.get("cases", {}))
        for name in self.tensors:
            side, _, rest = name.partition("/")
            if side in ("in", "out"):
                names[rest.partition("/")[0] if "/" in rest else SINGLE_CASE] = None
        return list(names)

    def inputs(self, case: str) -> dict[str, Tensor]:
        """Return the inputs of a case by name."""
        return _below(_folder("in", case), self.tensors)

    def outputs(self, case: str) -> dict[str, Tensor]:
        """Return what the reference gave for a case, by name."""
        return _below(_folder("out", case), self.tensors)

    def bf16_errors(self, case: str) -> dict[str, float]:
        """Return the reference's errors in bfloat16 by output, ``|a - b| / |b|`` (norms).

        ``grad`` is all gradients of parameters together; empty where the file does not tell.
        """
        errors = _below(_folder("bf16_error", case), self.tensors)
        return {name: float(error) for name, error in errors.items()}

    def case_config(self, case: str) -> Mapping[str, Any]:
        """Return the config's entry of a case; empty without one."""
        entry: Mapping[str, Any] = self.config.get("cases", {}).get(case, {})
        return entry

    def tolerance(self, output: str) -> Tolerance:
        """Return the tolerance of an output of this name."""
        kind = "grad" if output.startswith("grad") and "grad" in self.tolerances else "out"
        return self.tolerances.get(kind, Tolerance())


def read_index(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the index's entry of every file of the set, those that the index forgot included.

    Raises:
        NotFoundError: there is no index in the directory.
        ConfigError: the index can't be read.
    """
    path = directory / INDEX
    if not path.is_file():
        raise NotFoundError(
            f"no {INDEX} in {directory}", hint="give a directory laid out like a golden set"
        )
    try:
        entries = dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not the index of a golden set: {error!r}") from error
    present = (p.name for p in sorted(directory.iterdir()) if p.is_file() and p.name != INDEX)
    return entries | {name: {} for name in present if name not in entries}


def read_golden(directory: Path, name: str, entry: Mapping[str, Any]) -> GoldenFile:
    """Read a file of the set.

    Args:
        directory: of the set.
        name: of the file.
        entry: what the index says of it.

    Raises:
        ConfigError: the file is not there or can't be read.
    """
    path = directory / name
    if path.parent != directory or not path.is_file():
        raise ConfigError(f"the index names {name}, which is not in {directory}")
    tolerances = _tolerances(entry.get("tolerance"))
    try:
        if path.suffix == ".safetensors":
            return _read_tensors(path, entry, tolerances)
        data = json.loads(path.read_text(encoding="utf-8"))
        kind = str(entry.get("kind") or data.get("kind", "unknown"))
        return GoldenFile(name=name, kind=kind, tolerances=tolerances, data=data)
    except (SafetensorError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{name} can't be read: {error!r}") from error


def _read_tensors(
    path: Path, entry: Mapping[str, Any], tolerances: Mapping[str, Tolerance]
) -> GoldenFile:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        names: list[str] = list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names}
    return GoldenFile(
        name=path.name,
        kind=str(entry.get("kind") or metadata.get("kind", "unknown")),
        config=json.loads(metadata.get("config", "{}")),
        tolerances=tolerances,
        tensors=tensors,
    )


def _tolerances(entry: object) -> dict[str, Tolerance]:
    if not isinstance(entry, Mapping):
        return {}
    relative = entry.get("max_abs_over_tensor_max")
    rules: dict[str, Mapping[str, float]] = {"out": {}}
    rules |= {kind: rule for kind, rule in entry.items() if isinstance(rule, Mapping)}
    return {
        kind: Tolerance(rule.get("atol", 0.0), rule.get("rtol", 0.0), relative)
        for kind, rule in rules.items()
    }


def _folder(side: str, case: str) -> str:
    return f"{side}/{case}/" if case else f"{side}/"


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
