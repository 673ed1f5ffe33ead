from __future__ import annotations

import pytest
import torch
from torch import nn

from kinetoscope.core.errors import CorruptError
from kinetoscope.parity.reference.ema import ReferenceEMA


class Positioned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.linear.bias.requires_grad_(False)
        self.pos_embed = nn.Parameter(torch.zeros(2))


def test_the_reference_leaves_out_pos_embed_and_keeps_old_buffers() -> None:
    model = Positioned()
    ema = ReferenceEMA(model, decay=0.5)
    with torch.no_grad():
        for tensor in (model.pos_embed, model.linear.bias, model.norm.get_buffer("running_mean")):
            tensor.fill_(4.0)
        model.linear.weight.zero_()
    ema.update()
    exported = ema.export_state()
    assert exported["pos_embed"].tolist() == [0.0] * 2
    assert exported["norm.running_mean"].tolist() == [0.0] * 3
    assert not (exported["linear.bias"] == 4.0).all()
    torch.testing.assert_close(exported["linear.weight"], Positioned().linear.weight / 2)
    assert exported.keys() == model.state_dict().keys()


def test_import_restores_what_is_averaged_and_what_is_not() -> None:
    first, second = ReferenceEMA(Positioned(), decay=0.9), ReferenceEMA(Positioned(), decay=0.9)
    saved = {name: tensor + 1 for name, tensor in first.export_state().items()}
    second.import_state(saved)
    restored = second.export_state()
    assert all(torch.equal(restored[name], saved[name]) for name in saved)
    saved.pop("norm.running_mean")
    with pytest.raises(CorruptError, match=r"norm\.running_mean"):
        second.import_state(saved)
