"""One flipped bit anywhere in what a finished run keeps is told by name, or changes nothing."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from kinetoscope.artifacts.clips import open_clips
from kinetoscope.artifacts.files import read_artifact
from kinetoscope.artifacts.latents import open_latents
from kinetoscope.checkpoints.read import read_checkpoint
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.data.latents.format import ShardRecord
from kinetoscope.data.sources.listing import SourceListing
from kinetoscope.inference.bundle import load_bundle
from kinetoscope.runs.records import Run
from kinetoscope.steps.contract import StepResult, read_spec
from kinetoscope.steps.ledger.ledger import FOLD_KEY, Ledger
from kinetoscope.steps.ledger.story import story
from kinetoscope.steps.nodes.report import read_node_end
from kinetoscope.steps.results import read_result, read_status
from kinetoscope.storage.open import open_store
from kinetoscope.storage.records import read_record
from kinetoscope.tracking.mirrored_aliases import read_aliases
from kinetoscope.tracking.version_records import read_record as read_version_record

# What people read, and what is looked at while a run goes on: logs, rows of metrics, caches, beats;
# and the list of folders that are ours, which are known by their shape as well.
_EXCUSED = re.compile(
    r"/(logs|metrics|parts)/"
    r"|(report\.html|/beat\.json|/metrics\.jsonl|/digests\.json|/\.kinetoscope-folders)$"
)


@pytest.fixture
def objects(smoke: Any, tmp_path: Path) -> Path:
    shutil.copytree(smoke.workspace / "objects", tmp_path / "objects")
    return tmp_path / "objects"


@pytest.mark.parametrize("flips", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_told_by_name_or_harmless(
    objects: Path, tmp_path: Path, flips: int
) -> None:
    draw = random.Random(0)  # noqa: S311 - places to damage, no secret
    silent, unread = [], []
    for path in sorted(path for path in objects.rglob("*") if path.is_file()):
        key = path.relative_to(objects).as_posix()
        if _EXCUSED.search(f"/{key}"):
            continue
        read = _reader(objects, key, tmp_path)
        if read is None:
            unread.append(key)
            continue
        whole, expected = path.read_bytes(), read()
        for _ in range(min(flips, 8 * len(whole))):
            position = draw.randrange(8 * len(whole))
            flipped = bytearray(whole)
            flipped[position // 8] ^= 1 << position % 8
            path.write_bytes(flipped)
            try:
                same = _equal(read(), expected)
            except KinetoscopeError as error:
                same = path.name in error.message or path.parent.name in error.message
            if not same:
                silent.append((key, position))
        path.write_bytes(whole)
    assert silent == []
    assert unread == []


def _reader(objects: Path, key: str, scratch: Path) -> Callable[[], Any] | None:
    """Return what reads an object the way that Kinetoscope does, or None where nothing does."""
    root = objects.as_uri()
    top, *parts = key.split("/")
    if top == "runs":
        return _run_reader(Run(root, parts[0]), "/".join(parts[1:]))
    if top == "models":
        return lambda: load_bundle(open_store(f"{root}/models/{parts[0]}/{parts[1]}"), scratch)
    if top == "registry":
        store = open_store(root)
        aliases = parts[1] == "aliases"
        return lambda: read_aliases(store, parts[0]) if aliases else read_version_record(store, key)
    if top == "steps":
        uri = f"{root}/steps/{parts[0]}/{parts[1]}"
        return _step_reader(uri, "/".join(parts[2:]))
    return None


def _run_reader(run: Run, key: str) -> Callable[[], Any] | None:
    name = key.rpartition("/")[2].removesuffix(".json")
    readers: dict[str, Callable[[], Any]] = {
        "run.json": lambda: Run(run.root_uri, run.run_id).record,  # read anew
        "config.json": lambda: run.config,
        "videos.jsonl": lambda: _listing(run),
        "moved-videos.json": lambda: run.videos,
        "buckets.json": lambda: Run(run.root_uri, run.run_id).buckets,
        f"starts/{name}.json": lambda: run.start(int(name)).record,
        "starts/000001/end.json": run.end,
        "starts/000001/mirrored.json": run.latest_start().is_mirrored,
        f"steps/{name}.json": lambda: run.step(name),
    }
    return readers.get(key)


def _listing(run: Run) -> SourceListing:
    data = run.store.get_bytes("videos.jsonl")
    return SourceListing.from_bytes(data, run.record.videos.digest, "videos.jsonl")


def _step_reader(uri: str, key: str) -> Callable[[], Any] | None:
    if key == "result.json":
        return lambda: read_result(uri)
    if key.endswith("/status.json"):
        return lambda: read_status(uri)
    if key.startswith("specs/"):
        return lambda: read_spec(f"{uri}/{key}")
    if key.endswith("/end.json"):
        return lambda: read_node_end(open_store(uri), int(key.split("/")[1]), 0)
    if key == FOLD_KEY:
        return Ledger(open_store(uri)).state
    if key.startswith("ledger/"):
        # A blank that was flipped into another is told by the entry after it, if there is one.
        return lambda: story(Ledger(open_store(uri)))
    result = read_result(uri)
    assert result is not None
    return _artifact_reader(result, key)


def _artifact_reader(result: StepResult, key: str) -> Callable[[], Any] | None:
    store = open_store(result.uri)
    if key.startswith("checkpoints/"):
        prefix = "/".join(key.split("/")[:2])
        return lambda: read_checkpoint(store, prefix)
    name = next(name for name, artifact in result.artifacts.items() if key.startswith(artifact.key))
    if name == "clips":
        return lambda: list(open_clips(result))
    if name == "latents":
        if "/shards/" in key and key.endswith(".json"):
            return lambda: read_record(store, key, ShardRecord)
        return lambda: _latents(result)
    return lambda: read_artifact(result, name)


def _latents(result: StepResult) -> list[Any]:
    reader = open_latents(result)
    return [reader.index, *(reader.read(number).mean for number in range(len(reader)))]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if hasattr(one, "__slots__") and not isinstance(one, BaseModel):
        return all(_equal(getattr(one, name), getattr(other, name)) for name in one.__slots__)
    return bool(one == other)
