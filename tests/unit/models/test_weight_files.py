"""Weight files: every layout is read alike, and hostile or damaged ones are refused unopened."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kinetoscope.core.errors import ConfigError, KinetoscopeError, NotFoundError
from kinetoscope.models.tensor_files import open_weights, read_state_dict
from kinetoscope.models.weight_files import check_weights

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
INDEX = "model.safetensors.index.json"


def write_index(folder: Path, weight_map: dict[str, Any], name: str = INDEX) -> Path:
    path = folder / name
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def write_shards(folder: Path) -> Path:
    """Write ``TENSORS`` in two shards and return the index."""
    save_file({"a": TENSORS["a"]}, folder / "one.safetensors")
    save_file({"b": TENSORS["b"]}, folder / "two.safetensors")
    return write_index(folder, {"a": "one.safetensors", "b": "two.safetensors"})


def whole(folder: Path) -> Path:
    path = folder / "weights.safetensors"
    save_file(TENSORS, path)
    return path


def diffusers_folder(folder: Path) -> Path:
    save_file(TENSORS, folder / "diffusion_pytorch_model.safetensors")
    save_file({"a": torch.zeros(1)}, folder / "diffusion_pytorch_model.fp16.safetensors")
    return folder


def colossalai_folder(folder: Path) -> Path:
    (folder / "model").mkdir()
    (folder / "optimizer").mkdir()
    write_shards(folder / "model")
    return folder


def sharded_folder(folder: Path) -> Path:
    return write_shards(folder).parent


def sharded_pickles(folder: Path) -> Path:
    torch.save({"a": TENSORS["a"]}, folder / "pytorch_model-1.bin")
    torch.save({"b": TENSORS["b"]}, folder / "pytorch_model-2.bin")
    shards = {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}
    return write_index(folder, shards, "pytorch_model.bin.index.json").parent


def torch_file(folder: Path) -> Path:
    torch.save(TENSORS, folder / "ema.pt")
    return folder / "ema.pt"


def old_torch_file(folder: Path) -> Path:
    torch.save(TENSORS, folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder / "old.pth"


def nested_torch_file(folder: Path) -> Path:
    torch.save({"epoch": 3, "state_dict": TENSORS}, folder / "PixArt.pth")
    return folder / "PixArt.pth"


@pytest.mark.parametrize(
    "write",
    [
        whole,
        write_shards,
        sharded_folder,
        diffusers_folder,
        colossalai_folder,
        sharded_pickles,
        torch_file,
        old_torch_file,
        nested_torch_file,
    ],
)
def test_every_layout_gives_the_same_tensors(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path)
    check_weights(path)
    read = read_state_dict(path)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype


def test_of_several_tables_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"ema": TENSORS, "model": {"a": torch.zeros(1)}, "step": 7}, path)
    with pytest.raises(ConfigError, match="tables of tensors named ema, model"):
        open_weights(path)
    assert torch.equal(read_state_dict(path, table="ema")["a"], TENSORS["a"])
    with pytest.raises(ConfigError, match="no table 'optimizer', but ema, model"):
        open_weights(path, table="optimizer")


def test_tensors_are_read_when_asked_for(tmp_path: Path) -> None:
    path = whole(tmp_path)
    weights = open_weights(path)
    assert list(weights) == ["a", "b"]
    save_file({"a": torch.full((2, 3), 7.0), "b": TENSORS["b"]}, path)
    assert torch.equal(weights["a"], torch.full((2, 3), 7.0))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(
    suffix: str, value: float, tmp_path: Path
) -> None:
    weights = {"good": torch.ones(3), "bad": torch.tensor([1.0, value, value])}
    path = tmp_path / f"model{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    opened = open_weights(path)
    assert opened["good"].sum() == 3
    with pytest.raises(ConfigError, match=r"2 of 3 values of bad are NaN or infinite"):
        opened["bad"]


def test_float8_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"attn.weight": torch.ones(4).to(torch.float8_e4m3fn)}, path)
    with pytest.raises(ConfigError, match=r"attn\.weight is of torch\.float8_e4m3fn"):
        dict(open_weights(path))


@pytest.mark.parametrize(
    "shard", ["../one.safetensors", "/etc/passwd", "..", "", "sub/one.safetensors", "a\\b", 3, None]
)
def test_an_index_can_name_only_files_beside_it(shard: object, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        save_file({"a": TENSORS["a"]}, place / "one.safetensors")
    index = write_index(folder, {"a": shard})
    with pytest.raises(ConfigError, match="not the name of a file beside the index"):
        open_weights(index)


def test_an_index_that_contradicts_its_shards_is_refused(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(NotFoundError, match=r"two.safetensors is missing: .* puts 1 tensors there"):
        open_weights(index)
    with pytest.raises(NotFoundError, match=r"two.safetensors is missing"):
        check_weights(index)
    save_file({"c": TENSORS["b"]}, tmp_path / "two.safetensors")
    with pytest.raises(ConfigError, match=r"two.safetensors lacks 1 tensors: b"):
        open_weights(index)
    save_file(TENSORS, tmp_path / "two.safetensors")
    with pytest.raises(ConfigError, match=r"two.safetensors and one.safetensors both hold a"):
        open_weights(index)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"weight_map": {}}',
        '{"weight_map": ["a"]}',
        '{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}',
        "[" * 100_000,
    ],
)
def test_damaged_indexes_are_refused(text: str, tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    index.write_text(text)
    for look in (open_weights, check_weights):
        with pytest.raises(ConfigError, match=INDEX):
            look(index)


def test_folders_without_or_with_too_many_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no weight file in"):
        open_weights(tmp_path)
    for name in ("x.safetensors", "y.safetensors"):
        save_file(TENSORS, tmp_path / name)
    with pytest.raises(ConfigError, match=r"several weight files: x.safetensors, y.safetensors"):
        open_weights(tmp_path)
    with pytest.raises(NotFoundError, match="no weight file at"):
        open_weights(tmp_path / "z.safetensors")


class _Touch:
    """A pickle that runs code when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (os.rename, (self.path, self.path + ".ran"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["weights.bin", "pytorch_model.bin"])
def test_code_in_a_torch_file_is_not_run(name: str, zipped: bool, tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    bait.touch()
    path = tmp_path / name
    torch.save({"a": _Touch(bait)}, path, _use_new_zipfile_serialization=zipped)
    for look in (open_weights, check_weights):
        with pytest.raises(ConfigError, match="holds more than tensors"):
            look(path)
    write_index(tmp_path, {"a": name}, "pytorch_model.bin.index.json")
    with pytest.raises(ConfigError, match="holds more than tensors"):
        open_weights(tmp_path / "pytorch_model.bin.index.json")
    assert bait.exists()


@pytest.mark.parametrize(
    "beside",
    [{1, 2}, bytearray(b"x"), 1j, b"x", Counter("ab"), torch.Size([2]), torch.float16, 2**70],
)
def test_values_that_torch_reads_beside_tensors_are_let_through(
    beside: object, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": TENSORS, "beside": beside}, path)
    check_weights(path)
    assert read_state_dict(path).keys() == TENSORS.keys()


@pytest.mark.parametrize("beside", [np.float64(2), defaultdict(list), np.zeros(2), Path("x")])
def test_values_that_torch_does_not_read_are_told_before_it_tries(
    beside: object, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": TENSORS, "beside": beside}, path)
    for look in (open_weights, check_weights):
        with pytest.raises(ConfigError, match="holds more than tensors"):
            look(path)


def test_what_only_its_reader_would_refuse_is_told_before_it_reads(tmp_path: Path) -> None:
    later = tmp_path / "protocol.pt"
    torch.save(TENSORS, later, pickle_protocol=4)
    longer = whole(tmp_path)
    longer.write_bytes(longer.read_bytes() + b"\0" * 8)
    for path, told in ((later, "protocol of pickle above 2"), (longer, "has more at its end")):
        with pytest.raises(ConfigError):
            open_weights(path)
        with pytest.raises(ConfigError, match=told):
            check_weights(path)


def test_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    bait.touch()
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(_Touch(bait)))
    with pytest.raises(ConfigError, match="another pickle"):
        check_weights(path)
    with pytest.raises(ConfigError, match="holds more than tensors"):
        open_weights(path)
    assert bait.exists()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _header_too_long(path: Path) -> None:
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncated, _header_too_long, _empty])
@pytest.mark.parametrize("write", [whole, torch_file])
def test_damaged_files_are_refused(
    write: Callable[[Path], Path], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = write(tmp_path)
    damage(path)
    for look in (read_state_dict, check_weights):
        with pytest.raises(KinetoscopeError, match=path.name):
            look(path)


def test_a_whole_model_and_a_pointer_to_weights_are_no_weights(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(ConfigError, match=r"names torch\.nn\.modules\.linear Linear"):
        check_weights(tmp_path / "model.pt")
    pointer = tmp_path / "weights.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ConfigError, match="is a Git LFS pointer"):
        check_weights(pointer)


@pytest.mark.parametrize("value", [{"a": 1}, [torch.ones(1)], {}, {1: torch.ones(1)}, "text"])
def test_torch_files_without_a_table_of_tensors_are_refused(value: object, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(value, path)
    with pytest.raises(ConfigError, match="holds no table of tensors"):
        open_weights(path)


def test_torch_files_need_a_torch_that_opens_them_safely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = torch_file(tmp_path)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    with pytest.raises(ConfigError, match=r"torch 2.5.1\+cu124 can't open safely"):
        open_weights(path)


def test_a_tensor_of_a_view_is_read_alone(tmp_path: Path) -> None:
    """Torch files may share storage between tensors; each comes out with its own values."""
    base: Tensor = torch.arange(8.0)
    path = tmp_path / "shared.pt"
    torch.save({"all": base, "half": base[4:]}, path)
    read = read_state_dict(path)
    assert torch.equal(read["half"], torch.arange(4.0, 8.0))
