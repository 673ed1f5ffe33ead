from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny.ledgers import begin
from torch import Tensor

from kinetoscope.checkpoints.layout import CheckpointState
from kinetoscope.checkpoints.read import read_checkpoint, read_manifest
from kinetoscope.checkpoints.retention import list_checkpoints, prune, sweep
from kinetoscope.checkpoints.write import Author, SlicedTensor, TensorSlice, write_checkpoint
from kinetoscope.core.config_model import RECORD_DIGEST, signed_json
from kinetoscope.core.errors import CorruptError, NotFoundError, SupersededError, UserError
from kinetoscope.steps.ledger.entries import Damaged, Pruned, Saved
from kinetoscope.steps.ledger.ledger import Ledger
from kinetoscope.storage.directory import DirectoryStore
from kinetoscope.storage.open import open_store


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
        author=Author(generation),
    )[0]


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
    assert prefix == "checkpoints/step-00000100-gen-000002-save-0001"
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


def test_what_has_no_manifest_is_no_checkpoint(store: DirectoryStore) -> None:
    torn = save(store, 100)
    store.delete(f"{torn}/MANIFEST.json")
    with pytest.raises(NotFoundError, match="no checkpoint"):
        read_checkpoint(store, torn)


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "index.json"])
def test_a_flipped_byte_is_refused(store: DirectoryStore, name: str) -> None:
    prefix = save(store, 100)
    flip_byte(store, f"{prefix}/{name}")
    with pytest.raises(CorruptError, match=name):
        read_checkpoint(store, prefix)


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"step": 1}'])
def test_a_broken_or_missing_file_is_refused(store: DirectoryStore, content: bytes | None) -> None:
    prefix = save(store, 1)
    if content is None:
        store.delete(f"{prefix}/ema.safetensors")
    else:
        store.put_bytes(f"{prefix}/ema.safetensors", content)
    with pytest.raises(CorruptError, match="ema"):
        read_checkpoint(store, prefix)


@pytest.mark.parametrize("content", [b"", b"{", b'{"step": 1}'])
def test_a_broken_manifest_is_refused(store: DirectoryStore, content: bytes) -> None:
    prefix = save(store, 1)
    store.put_bytes(f"{prefix}/MANIFEST.json", content)
    with pytest.raises(CorruptError, match="MANIFEST"):
        read_checkpoint(store, prefix)


def test_newer_formats_are_refused(store: DirectoryStore) -> None:
    prefix = save(store, 100)
    edit_json(store, f"{prefix}/MANIFEST.json", format_version=2)
    with pytest.raises(UserError, match="format 2"):
        read_checkpoint(store, prefix)


def test_fields_that_a_later_version_added_are_ignored(store: DirectoryStore) -> None:
    prefix = save(store, 1)
    edit_json(store, f"{prefix}/MANIFEST.json", note="new")
    assert read_checkpoint(store, prefix).state.step == 1


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


def count(store: DirectoryStore, ledger: Ledger, step: int, generation: int = 1) -> str:
    """Save a checkpoint that counts."""
    prefix = save(store, step, generation)
    saved = Saved(prefix=prefix, manifest=read_manifest(store, prefix).digest, step=step)
    ledger.append(lambda _: saved, generation)
    return prefix


def test_prune_keeps_the_newest_and_gives_up_before_it_deletes(store: DirectoryStore) -> None:
    ledger = Ledger(store)
    begin(store)
    prefixes = [count(store, ledger, step) for step in (10, 20, 30, 40)]
    assert prune(store, ledger, generation=1, keep_last=2) == prefixes[:2]
    assert list_checkpoints(store) == prefixes[2:]
    assert not store.list(prefixes[0])
    assert ledger.state().doomed == tuple(prefixes[:2])
    newest = count(store, ledger, 50)
    assert prune(store, ledger, generation=1, keep_last=2) == prefixes[:3]
    # What was given up and is gone is forgotten with the next, so that the state stays small.
    assert ledger.state().doomed == (prefixes[2],)
    assert list_checkpoints(store) == [prefixes[3], newest]
    with pytest.raises(ValueError, match="keep_last=0"):
        prune(store, ledger, generation=1, keep_last=0)


def test_a_superseded_attempt_deletes_nothing(store: DirectoryStore) -> None:
    ledger = Ledger(store)
    begin(store)
    prefixes = [count(store, ledger, step) for step in (10, 20)]
    begin(store)
    with pytest.raises(SupersededError):
        prune(store, ledger, generation=1, keep_last=1)
    assert list_checkpoints(store) == prefixes
    assert all(store.list(prefix) for prefix in prefixes)


def test_a_deletion_that_was_cut_short_is_finished_by_a_later_attempt(
    store: DirectoryStore,
) -> None:
    ledger = Ledger(store)
    begin(store)
    old, new = (count(store, ledger, step) for step in (10, 20))
    ledger.append(lambda _: Pruned(prefixes=(old,)), 1)
    begin(store)
    assert prune(store, Ledger(store), generation=2, keep_last=1) == [old]
    assert not store.list(old)
    assert store.list(new)


def test_a_damaged_one_goes_when_a_newer_one_is_there(store: DirectoryStore) -> None:
    ledger = Ledger(store)
    begin(store)
    prefixes = [count(store, ledger, step) for step in (10, 20)]
    ledger.append(lambda _: Damaged(prefix=prefixes[1]), 1)
    assert list_checkpoints(store) == prefixes[:1]
    newest = count(store, ledger, 30)
    assert prune(store, ledger, generation=1, keep_last=2) == [prefixes[1]]
    assert list_checkpoints(store) == [prefixes[0], newest]


def test_sweep_deletes_what_earlier_attempts_never_finished(store: DirectoryStore) -> None:
    ledger = Ledger(store)
    begin(store)
    kept = count(store, ledger, 10)
    unfinished = save(store, 20)
    begin(store)
    own = save(store, 20, 2)
    assert sweep(store, ledger.state()) == [unfinished]
    assert not store.list(unfinished)
    assert store.list(kept)
    assert store.list(own)  # of this attempt: may still be written
