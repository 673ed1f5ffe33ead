from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.read import read_checkpoint, verify_checkpoint
from kinetoscope.checkpoints.retention import latest_checkpoint, list_checkpoints, prune
from kinetoscope.checkpoints.write import Author, SlicedTensor, TensorSlice, write_checkpoint
from kinetoscope.core.config_model import RECORD_DIGEST, signed_json
from kinetoscope.core.errors import CorruptError, NotFoundError, SupersededError, UserError
from kinetoscope.storage.directory import DirectoryStore
from kinetoscope.storage.open import open_store


def nothing() -> None:
    return


def make_tensors(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    conv = torch.randn(8, 4, 3, 3, generator=generator).to(memory_format=torch.channels_last)
    return {
        "weights": {"conv.weight": conv, "bias": torch.randn(8, generator=generator)},
        "optimizer": {"exp_avg.bias": torch.randn(8, generator=generator), "step": torch.tensor(5)},
        "ema": {"bias": torch.randn(8, generator=generator)},
    }


def save(
    store: DirectoryStore,
    step: int,
    generation: int = 1,
    *,
    tensors: Any = None,
    check_fence: Callable[[], None] = nothing,
) -> str:
    state = CheckpointState(
        step=step,
        epoch=2,
        plan_position=7,
        config_hash="sha256:ab",
        scheduler={"warmup": 3},
        lineage={"data": "sha256:cd"},
        extra={"loss": 0.5},
    )
    return write_checkpoint(
        store,
        tensors=tensors or make_tensors(step),
        state=state,
        author=Author(generation, check_fence=check_fence),
    )


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def flip_byte(store: DirectoryStore, key: str, place: int = -5) -> None:
    data = bytearray(store.get_bytes(key))
    data[place] ^= 1
    store.put_bytes(key, bytes(data))


def edit_json(store: DirectoryStore, key: str, **changes: Any) -> None:
    value = json.loads(store.get_bytes(key)) | changes
    del value[RECORD_DIGEST]
    store.put_bytes(key, signed_json(value))


def test_everything_comes_back_bit_for_bit(store: DirectoryStore) -> None:
    prefix = save(store, 100, 2)
    assert prefix == "checkpoints/step-00000100-gen-000002"
    checkpoint = read_checkpoint(store, prefix)
    assert checkpoint.generation == 2
    assert (checkpoint.state.step, checkpoint.state.epoch, checkpoint.state.plan_position) == (
        100,
        2,
        7,
    )
    assert checkpoint.state.extra == {"loss": 0.5}
    assert checkpoint.state.lineage == {"data": "sha256:cd"}
    for group, named in make_tensors(100).items():
        assert checkpoint.tensors[group].keys() == named.keys()
        for name, tensor in named.items():
            assert torch.equal(checkpoint.tensors[group][name], tensor)
            assert checkpoint.tensors[group][name].dtype == tensor.dtype


def test_floats_are_stored_as_contiguous_fp32(store: DirectoryStore) -> None:
    half = torch.randn(3, 4).bfloat16()
    prefix = save(store, 1, tensors={"weights": {"a": half.T}})
    stored = load_file(store.local_path(f"{prefix}/weights.safetensors") or "")["a"]
    assert stored.dtype == torch.float32
    assert stored.is_contiguous()
    assert torch.equal(stored, half.T.float())


def test_equal_states_give_equal_files(tmp_path: Path) -> None:
    stores = [DirectoryStore(tmp_path / name) for name in ("a", "b")]
    prefixes = [save(store, 10) for store in stores]
    for name in ("weights.safetensors", "optimizer.safetensors", "index.json", "MANIFEST.json"):
        one, other = (s.get_bytes(f"{p}/{name}") for s, p in zip(stores, prefixes, strict=True))
        assert one == other


def test_tied_weights_and_views_are_written(store: DirectoryStore) -> None:
    table = torch.randn(6, 4)
    prefix = save(store, 1, tensors={"weights": {"a": table, "b": table, "c": table[2]}})
    tensors = read_checkpoint(store, prefix).tensors["weights"]
    assert torch.equal(tensors["a"], tensors["b"])
    assert torch.equal(tensors["c"], table[2])


def test_single_groups_can_be_read_from_a_store_rooted_at_the_checkpoint(
    store: DirectoryStore,
) -> None:
    prefix = save(store, 1)
    rooted = open_store(f"{store.uri}/{prefix}")
    # What is not asked for is not even opened.
    store.delete(f"{prefix}/optimizer.safetensors")
    assert list(read_checkpoint(rooted, groups=["ema"]).tensors) == ["ema"]
    with pytest.raises(NotFoundError, match=r"discriminator.*weights"):
        read_checkpoint(rooted, groups=["discriminator"])


@pytest.mark.parametrize(
    "lost",
    [
        ["MANIFEST.json"],
        ["MANIFEST.json", "index.json"],
        ["MANIFEST.json", "index.json", "ema.safetensors", "optimizer.safetensors"],
    ],
)
def test_a_write_that_was_cut_short_does_not_exist(store: DirectoryStore, lost: list[str]) -> None:
    good = save(store, 50)
    torn = save(store, 100)
    for name in lost:
        store.delete(f"{torn}/{name}")
    assert latest_checkpoint(store) == good
    with pytest.raises(NotFoundError, match="no committed checkpoint"):
        read_checkpoint(store, torn)


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "index.json"])
def test_a_flipped_byte_is_refused_and_the_checkpoint_before_is_used(
    store: DirectoryStore, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = save(store, 50)
    bad = save(store, 100)
    flip_byte(store, f"{bad}/{name}")
    with pytest.raises(CorruptError, match=name):
        read_checkpoint(store, bad)
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(store) == good
    assert bad in caplog.text
    assert name in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"step": 1}'])
def test_a_broken_or_missing_file_is_refused(store: DirectoryStore, content: bytes | None) -> None:
    prefix = save(store, 1)
    if content is None:
        store.delete(f"{prefix}/ema.safetensors")
    else:
        store.put_bytes(f"{prefix}/ema.safetensors", content)
    with pytest.raises(CorruptError, match="ema"):
        verify_checkpoint(store, prefix)
    assert latest_checkpoint(store) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"step": 1}'])
def test_a_broken_manifest_is_refused(store: DirectoryStore, content: bytes) -> None:
    prefix = save(store, 1)
    store.put_bytes(f"{prefix}/MANIFEST.json", content)
    with pytest.raises(CorruptError, match="MANIFEST"):
        read_checkpoint(store, prefix)


def test_newer_formats_are_refused_and_not_passed_over(store: DirectoryStore) -> None:
    save(store, 50)
    prefix = save(store, 100)
    edit_json(store, f"{prefix}/MANIFEST.json", format_version=2)
    for read in (lambda: read_checkpoint(store, prefix), lambda: latest_checkpoint(store)):
        with pytest.raises(UserError, match="format 2"):
            read()


def test_fields_that_a_later_version_added_are_ignored(store: DirectoryStore) -> None:
    prefix = save(store, 1)
    edit_json(store, f"{prefix}/MANIFEST.json", note="new")
    assert read_checkpoint(store, prefix).state.step == 1


def test_a_superseded_attempt_can_not_commit(store: DirectoryStore) -> None:
    def superseded() -> None:
        # All data is there by now: only the commit is missing.
        assert store.stat("checkpoints/step-00000100-gen-000001/index.json")
        raise SupersededError("a later attempt runs")

    with pytest.raises(SupersededError):
        save(store, 100, check_fence=superseded)
    assert latest_checkpoint(store) is None
    assert list_checkpoints(store) == []


def test_a_committed_checkpoint_is_not_written_twice(store: DirectoryStore) -> None:
    prefix = save(store, 1)
    assert save(store, 1, tensors=make_tensors(99)) == prefix
    stored = read_checkpoint(store, prefix).tensors["ema"]["bias"]
    assert torch.equal(stored, make_tensors(1)["ema"]["bias"])


def test_a_later_attempt_counts_more_than_a_later_step(store: DirectoryStore) -> None:
    save(store, 200, 1)
    newest = save(store, 150, 2)
    assert latest_checkpoint(store) == newest


def test_no_checkpoint_at_all_is_none(store: DirectoryStore) -> None:
    assert latest_checkpoint(store) is None


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 9), max_size=4, unique=True), column=st.integers(0, 5))
def test_sliced_tensors_are_put_together(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], column: int
) -> None:
    store = DirectoryStore(tmp_path_factory.mktemp("sliced"))
    whole = torch.arange(60.0).reshape(10, 6)
    bounds = [0, *sorted(cuts), 10]
    pieces = []
    for first, last in pairwise(bounds):
        for left, right in ((0, column), (column, 6)):
            if left < right:
                piece = whole[first:last, left:right]
                pieces.append(TensorSlice((first, left), piece))
    sliced = SlicedTensor((10, 6), tuple(reversed(pieces)))
    prefix = save(store, 1, tensors={"weights": {"a": sliced, "b": whole}})
    tensors = read_checkpoint(store, prefix).tensors["weights"]
    assert torch.equal(tensors["a"], whole)
    assert torch.equal(tensors["b"], whole)


def test_slices_that_leave_a_gap_are_refused(store: DirectoryStore) -> None:
    sliced = SlicedTensor((4, 2), (TensorSlice((0, 0), torch.ones(3, 2)),))
    prefix = save(store, 1, tensors={"weights": {"a": sliced}})
    with pytest.raises(CorruptError, match="do not cover"):
        read_checkpoint(store, prefix)


def test_prune_keeps_the_newest_and_sweeps_what_was_never_finished(store: DirectoryStore) -> None:
    prefixes = [save(store, step) for step in (10, 20, 30, 40)]
    store.delete(f"{prefixes[1]}/MANIFEST.json")
    in_progress = save(store, 50)
    store.delete(f"{in_progress}/MANIFEST.json")
    assert prune(store, keep_last=2) == prefixes[:2]
    assert list_checkpoints(store) == prefixes[2:]
    assert not store.list(prefixes[0])
    assert not store.list(prefixes[1])
    assert store.list(in_progress)  # newer than all that is committed: may still be written
    assert prune(store, keep_last=2) == []
    with pytest.raises(ValueError, match="keep_last=0"):
        prune(store, keep_last=0)
