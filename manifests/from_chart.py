"""Writes manifests/base and manifests/components from the chart: `make manifests`.

One source of truth: the objects of a component are what the chart adds for its values.yaml; what
those values change in other objects becomes a patch. Overlays are written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from chart_values import merged
from rendering import Object, render

MANIFESTS = Path(__file__).resolve().parent
HEADER = "# Written by `make manifests` from charts/kinetoscope and the values.yaml files here.\n"
RELEASE = "kinetoscope"
# Stands for the overlay's namespace while the chart is rendered; nothing that is written has it.
PLACE = "namespace-of-the-overlay"

_BUILT_IN = ("v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "policy/v1")
_COMPONENT_LABEL = "app.kubernetes.io/component"
Key = tuple[str, str]
"""Kind and name; in an overlay all objects are in one namespace."""


@dataclass(frozen=True)
class Piece:
    """The objects and patches of base or of one component."""

    folder: Path
    objects: Sequence[Object]
    patches: Mapping[Key, Object]


def main() -> None:
    """Write all generated files and remove those that are no longer generated."""
    files = generate()
    for path in generated_files():
        if path not in files:
            path.unlink()
    for path, text in files.items():
        path.write_text(text)


def generate() -> dict[Path, str]:
    """The text of every generated file."""
    return {path: text for piece in pieces() for path, text in _files(piece).items()}


def generated_files() -> list[Path]:
    """The files that are there and say that they are generated."""
    return [
        path
        for path in sorted(MANIFESTS.rglob("*.yaml"))
        if path.read_text().startswith(HEADER.partition("\n")[0])
    ]


def component_names() -> list[str]:
    """The folders of manifests/components."""
    return sorted(path.parent.name for path in (MANIFESTS / "components").glob("*/values.yaml"))


def objects_for(components: Iterable[str]) -> dict[Key, Object]:
    """The chart's objects with base's values and those of these components, made for kustomize."""
    files = [MANIFESTS / "values.yaml"]
    files += [MANIFESTS / "components" / name / "values.yaml" for name in components]
    runs = {"runNamespaces": [{"name": PLACE, "serviceAccount": "pipeline-runner"}]}
    values = merged(*(yaml.safe_load(file.read_text()) for file in files), runs)
    rendered = render(values, release=RELEASE, namespace=PLACE).objects
    objects = [_for_kustomize(item) for item in rendered if not _is_test(item)]
    return {_key(item): item for item in objects}


def pieces() -> list[Piece]:
    """Base and all components.

    An object that only appears when several components are there (the development store's network
    policy) belongs to the first of them by name.
    """
    names = component_names()
    base, everything = objects_for([]), objects_for(names)
    without = {name: objects_for(set(names) - {name}) for name in names}
    owned: dict[str, list[Object]] = {name: [] for name in names}
    patches: dict[str, dict[Key, Object]] = {name: {} for name in names}
    for key, item in everything.items():
        owners = [name for name in names if key not in without[name]]
        if key not in base:
            owned[owners[0]].append(objects_for(owners)[key])
        for name in set(names) - set(owners):
            if without[name][key] != item:
                patches[name][key] = _patch(without[name][key], item)
    found = [Piece(MANIFESTS / "base", list(base.values()), {})]
    folders = {name: MANIFESTS / "components" / name for name in names}
    return found + [Piece(folders[name], owned[name], patches[name]) for name in names]


def _is_test(item: Object) -> bool:
    return "helm.sh/hook" in (item["metadata"].get("annotations") or {})


def _key(item: Object) -> Key:
    return item["kind"], item["metadata"]["name"]


def _for_kustomize(item: Object) -> Object:
    """Without what only Helm needs, and without the namespace, which the overlay sets."""
    metadata = dict(item["metadata"])
    metadata.pop("namespace", None)
    annotations = {
        key: value
        for key, value in (metadata.pop("annotations", None) or {}).items()
        if not key.startswith("helm.sh/")
    }
    if annotations:
        metadata["annotations"] = annotations
    made = _without_helm({**item, "metadata": metadata})
    if made["kind"] == "RoleBinding":
        # The overlay fills it in; forgotten, the API server refuses the binding.
        made["subjects"] = [_without(subject, "namespace") for subject in made["subjects"]]
    assert isinstance(made, dict)
    return made


def _without(item: Object, key: str) -> Object:
    return {name: value for name, value in item.items() if name != key}


def _without_helm(value: Any) -> Any:
    """Labels of Helm and names with the namespace, replaced at any depth."""
    if isinstance(value, dict):
        kept = {key: _without_helm(inner) for key, inner in value.items() if key != "helm.sh/chart"}
        if kept.get("app.kubernetes.io/managed-by") == "Helm":
            kept["app.kubernetes.io/managed-by"] = "kustomize"
        return kept
    if isinstance(value, list):
        return [_without_helm(inner) for inner in value if not _selects_place(inner)]
    return _within_namespace(value) if isinstance(value, str) else value


def _selects_place(peer: object) -> bool:
    """Whether a network policy's peer is the overlay's own namespace: the empty podSelector is."""
    return isinstance(peer, dict) and set(peer) == {"namespaceSelector"} and PLACE in str(peer)


def _within_namespace(text: str) -> str:
    """Host names of Services as a pod of the same namespace may write them: just the name."""
    if "," in text:
        return ",".join(name for name in text.split(",") if PLACE not in name)
    return text.replace(f".{PLACE}.svc", "")


def _patch(before: Any, after: Any) -> Any:
    """What a strategic merge patch needs to turn one object into the other."""
    changed = _difference(before, after, lists=before["apiVersion"] not in _BUILT_IN)
    return {
        "apiVersion": after["apiVersion"],
        "kind": after["kind"],
        "metadata": {"name": after["metadata"]["name"]},
        **changed,
    }


def _difference(before: Object, after: Object, *, lists: bool) -> Object:
    found: Object = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value != old:
            found[key] = _difference(old, value, lists=lists)
        elif value != old:
            # kustomize merges the lists of Kubernetes' own kinds by key and replaces all others.
            assert lists or not isinstance(value, list), f"cannot patch the list {key}"
            found[key] = value
    return found


def _files(piece: Piece) -> dict[Path, str]:
    documents: dict[str, list[Object]] = {}
    for item in piece.objects:
        name = item["metadata"]["labels"][_COMPONENT_LABEL]
        documents.setdefault(f"{name}.yaml", []).append(item)
    kustomization: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
    }
    if documents:
        kustomization["resources"] = sorted(documents)
    if piece.folder.name == "base":
        kustomization |= {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    patches = []
    for (kind, name), patch in sorted(piece.patches.items()):
        file = f"patch-{name}.yaml"
        documents[file] = [patch]
        # With a target, a patch of what an overlay leaves out is no error.
        patches.append({"path": file, "target": {"kind": kind, "name": name}})
    if patches:
        kustomization["patches"] = patches
    documents["kustomization.yaml"] = [kustomization]
    return {piece.folder / name: HEADER + _text(items) for name, items in documents.items()}


def _text(items: Sequence[Object]) -> str:
    return yaml.dump_all(items, Dumper=_Dumper, sort_keys=False, width=1000)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and everything in full."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _block)

if __name__ == "__main__":
    main()
