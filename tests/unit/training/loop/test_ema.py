from __future__ import annotations

import pytest
import torch
from torch import nn

from kinetoscope.core.errors import CorruptError
from kinetoscope.training.loop.ema import EMA


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.linear.bias.requires_grad_(False)


def test_average_follows_the_closed_form() -> None:
    model = Model()
    ema = EMA(model, decay=0.9)
    expected = model.linear.weight.detach().clone()
    for step in range(5):
        with torch.no_grad():
            model.linear.weight.fill_(float(step))
        ema.update()
        expected = 0.9 * expected + 0.1 * step
    torch.testing.assert_close(ema.export_state()["linear.weight"], expected)


def test_export_is_a_whole_state_dict_with_the_rest_as_it_is() -> None:
    model = Model()
    ema = EMA(model, decay=0.5)
    with torch.no_grad():
        model.linear.weight.add_(1.0)
        model.norm.get_buffer("running_mean").fill_(3.0)
    exported = ema.export_state()
    assert exported.keys() == model.state_dict().keys()
    assert torch.equal(exported["norm.running_mean"], torch.full((3,), 3.0))
    assert not torch.equal(exported["linear.weight"], model.linear.weight)
    Model().load_state_dict(exported, strict=True)


def test_import_restores_the_average_bit_for_bit() -> None:
    first = EMA(Model(), decay=0.9)
    saved = {name: tensor + 0.125 for name, tensor in first.export_state().items()}
    second = EMA(Model(), decay=0.9)
    second.import_state(saved)
    assert torch.equal(second.export_state()["linear.weight"], saved["linear.weight"])


def test_import_refuses_a_missing_average() -> None:
    ema = EMA(Model(), decay=0.9)
    with pytest.raises(CorruptError, match=r"linear\.weight"):
        ema.import_state({})


def test_averages_of_a_bf16_model_are_float32() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.ones_(model.weight)
    ema = EMA(model, decay=0.9999)
    nn.init.constant_(model.weight, 2.0)
    for _ in range(100):
        ema.update()
    average = ema.export_state()["weight"]
    assert average.dtype == torch.float32
    # In bfloat16, 1 + 1e-4 is 1: the average would never move.
    torch.testing.assert_close(average, torch.tensor([[2 - 0.9999**100]]), rtol=1e-5, atol=0)


class Positioned(Model):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(2))


def test_pos_embed_is_averaged_and_what_is_not_trained_is_live() -> None:
    model = Positioned()
    ema = EMA(model, decay=0.5)
    with torch.no_grad():
        for tensor in (model.pos_embed, model.linear.bias, model.norm.get_buffer("running_mean")):
            tensor.fill_(4.0)
        model.linear.weight.zero_()
    ema.update()
    exported = ema.export_state()
    assert exported["pos_embed"].tolist() == [2.0] * 2
    assert exported["norm.running_mean"].tolist() == [4.0] * 3
    assert (exported["linear.bias"] == 4.0).all()
    torch.testing.assert_close(exported["linear.weight"], Model().linear.weight / 2)
    assert exported.keys() == model.state_dict().keys()
