"""What a training stage may choose: what is kept for backward, what is trained."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import pytest
import torch
from tiny.models import random_transformer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kinetoscope.models.stdit.config import STDIT_3B_2, STDIT_XL_2, STDiTConfig
from kinetoscope.models.stdit.model import STDiT


class _Watched(TorchDispatchMode):
    """Counts operators, and the bytes that their results still hold."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.held_bytes = 0
        self.calls: Counter[str] = Counter()
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        self.calls[function.overloadpacket.__name__] += 1
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._hold(tensor.untyped_storage())
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.held_bytes += size
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held_bytes -= size


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _loss(model: STDiT, frames: int = 3, side: int = 8) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    output: Tensor = model(
        torch.randn(2, 4, frames, side, side, generator=draws),
        torch.tensor([100.0, 900.0]),
        torch.randn(2, 6, 12, generator=draws),
        torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]]),
        height_B=torch.full((2,), 64.0),
        width_B=torch.full((2,), 64.0),
        fps_B=torch.full((2,), 24.0),
    )
    return output.square().mean()


def _watched_step(mode: str) -> tuple[int, Counter[str], dict[str, Tensor]]:
    model = random_transformer(activation_checkpointing=mode)
    with _Watched() as watched:
        loss = _loss(model)
        held = watched.held_bytes
        loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return held, watched.calls, gradients


def test_selective_recomputation_saves_memory_and_repeats_no_matrix_product() -> None:
    (held, calls, gradients), selective, full = map(_watched_step, ("none", "selective", "full"))
    assert full[0] < 0.3 * held < selective[0] < 0.7 * held
    attention = ("_scaled_dot_product_flash_attention_for_cpu", "attend_to_packed")
    matmuls = ("mm", "addmm", "bmm", *attention)
    assert [selective[1][name] for name in matmuls] == [calls[name] for name in matmuls]
    assert full[1]["addmm"] > calls["addmm"]
    assert selective[1]["gelu"] > calls["gelu"]
    for recomputed in (selective[2], full[2]):
        assert recomputed.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert torch.equal(recomputed[name], gradient), name


@pytest.mark.parametrize("mode", ["none", "selective", "full"])
def test_temporal_training_leaves_all_else_as_it_is(mode: str) -> None:
    model = random_transformer(trainable="temporal", activation_checkpointing=mode)
    _loss(model).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if "temporal_blocks" in name}
    whole = random_transformer()
    _loss(whole).backward()
    for name in trained:
        torch.testing.assert_close(
            model.get_parameter(name).grad, whole.get_parameter(name).grad, msg=name
        )


def test_a_single_frame_gives_every_parameter_a_gradient() -> None:
    model = random_transformer()
    _loss(model, frames=1).backward()
    without = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert not gradients["temporal_blocks.0.attn.q_norm.weight"].any()
    projection = gradients["temporal_blocks.0.attn.qkv.weight"]
    assert not projection[:64].any()
    assert projection[64:].any(dim=1).all()


def test_a_single_frame_attends_as_any_number_of_its_copies() -> None:
    attention = random_transformer().get_submodule("temporal_blocks.0.attn")
    x_NLD = torch.randn(5, 1, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(attention(x_NLD), attention(x_NLD.expand(-1, 2, -1))[:, :1])


@pytest.mark.parametrize(
    ("config", "parameters"), [(STDIT_XL_2, 1_207_643_972), (STDIT_3B_2, 3_182_211_572)]
)
def test_presets_have_the_reference_s_size(config: STDiTConfig, parameters: int) -> None:
    with torch.device("meta"):
        model = STDiT(config)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_temporal_blocks_are_half_of_the_released_size() -> None:
    with torch.device("meta"):
        model = STDiT(STDIT_XL_2.model_copy(update={"trainable": "temporal"}))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 595_159_488


def test_forward_without_gradients_changes_no_input() -> None:
    """The feed-forward layers work in place then."""
    model = random_transformer()
    mlp = model.get_submodule("spatial_blocks.0.mlp")
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(2))
    given = x.clone()
    with torch.no_grad():
        without = mlp(x)
    assert torch.equal(x, given)
    torch.testing.assert_close(without, mlp(x).detach())
