"""PixArt's weights become STDiT's spatial half; everything else keeps its initial values."""

from __future__ import annotations

import re

import pytest
import torch
from tiny.models import transformer
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.weights.open_sora.load import load_transformer_weights

CONFIG = transformer(depth=2, max_text_tokens=6)
NEW = r"temporal_blocks\..*|fps_embedder\..*|rope\.freqs|.*\.attn\.[qk]_norm\.weight"


def pixart_weights(text_tokens: int) -> dict[str, Tensor]:
    """Return weights in the layout of PixArt's own files, from a transformer of the same size."""
    torch.manual_seed(1)
    weights = {}
    for name, tensor in STDiT(CONFIG).state_dict().items():
        if re.fullmatch(NEW, name):
            continue
        value = torch.randn_like(tensor)
        if name == "x_embedder.proj.weight":
            value = value.squeeze(2)
        if name == "y_embedder.y_embedding":
            value = torch.randn(text_tokens, CONFIG.text_width)
        weights[re.sub("^spatial_blocks", "blocks", name)] = value
    return {
        **weights,
        "pos_embed": torch.zeros(1, 64, 16),
        "csize_embedder.mlp.0.weight": torch.zeros(4, 4),
        "ar_embedder.mlp.0.weight": torch.zeros(4, 4),
    }


@pytest.mark.parametrize("text_tokens", [4, 6, 9])
def test_pixart_becomes_the_spatial_half(text_tokens: int) -> None:
    weights = pixart_weights(text_tokens)
    model = STDiT(CONFIG)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_transformer_weights(model, weights)

    after = model.state_dict()
    assert report.fits
    assert set(report.new) == {name for name in after if re.fullmatch(NEW, name)}
    for name in report.new:
        assert torch.equal(after[name], before[name]), name
    for name in after.keys() - set(report.new) - {"y_embedder.y_embedding"}:
        source = weights[re.sub("^spatial_blocks", "blocks", name)]
        assert torch.equal(after[name].flatten(), source.flatten()), name
    null, given = after["y_embedder.y_embedding"], weights["y_embedder.y_embedding"]
    rows = [min(row, text_tokens - 1) for row in range(CONFIG.max_text_tokens)]
    assert torch.equal(null, given[rows])
    assert "new (" in report.describe()


def test_at_first_the_model_sees_each_frame_alone() -> None:
    """The new temporal blocks add nothing: equal frames stay equal, whatever the others are."""
    model = STDiT(CONFIG).eval()
    load_transformer_weights(model, pixart_weights(6))
    torch.manual_seed(2)
    video = torch.randn(1, 4, 3, 4, 4)
    other = video.clone()
    other[:, :, 1:] = torch.randn(1, 4, 2, 4, 4)
    size = torch.tensor([32.0])
    outputs = [
        model(
            x,
            torch.tensor([500.0]),
            torch.ones(1, 6, 8),
            height_B=size,
            width_B=size,
            fps_B=torch.tensor([24.0]),
        )
        for x in (video, other)
    ]
    assert torch.allclose(outputs[0][:, :, 0], outputs[1][:, :, 0], atol=1e-5)
    assert not torch.allclose(outputs[0][:, :, 1], outputs[1][:, :, 1], atol=1e-3)


def test_the_layout_can_be_demanded() -> None:
    with pytest.raises(ConfigError, match="unexpected"):
        load_transformer_weights(STDiT(CONFIG), pixart_weights(6), layout="stdit")
    with pytest.raises(ConfigError, match=r"fit STDiT: .* unexpected \("):
        load_transformer_weights(STDiT(CONFIG), pixart_weights(6) | {"foo": torch.ones(1)})
    own = STDiT(CONFIG).state_dict()
    with pytest.raises(ConfigError, match="not PixArt's weights"):
        load_transformer_weights(STDiT(CONFIG), own, layout="pixart")
    assert load_transformer_weights(STDiT(CONFIG), own).fits
    assert load_transformer_weights(STDiT(CONFIG), own, layout="stdit").new == ()


def test_pixart_of_another_depth_is_refused() -> None:
    shallow = {k: v for k, v in pixart_weights(6).items() if not k.startswith("blocks.1.")}
    with pytest.raises(ConfigError, match=r"missing \(spatial_blocks.1"):
        load_transformer_weights(STDiT(CONFIG), shallow)
