from __future__ import annotations

import pytest
import torch
from torch import nn

from kinetoscope.core.errors import CorruptError
from kinetoscope.training.ema import EMA


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
