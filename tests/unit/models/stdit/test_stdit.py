from __future__ import annotations

import pytest
import torch
from einops import rearrange
from pydantic import ValidationError
from tiny.models import random_transformer, transformer, transformer_inputs
from torch import Tensor

from kinetoscope.models.stdit.model import STDiT


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_a_meta_model_materialises_to_the_same_weights() -> None:
    config = transformer(depth=2)
    direct = STDiT(config)
    direct.reset_parameters(torch.Generator().manual_seed(3))
    with torch.device("meta"):
        late = STDiT(config)
    late = late.to_empty(device="cpu")
    late.reset_parameters(torch.Generator().manual_seed(3))
    assert direct.state_dict().keys() == late.state_dict().keys()
    for key, tensor in direct.state_dict().items():
        assert torch.equal(tensor, late.state_dict()[key]), key


@pytest.mark.parametrize("compat", [True, False])
def test_condition_frames_have_time_zero(compat: bool) -> None:
    model, inputs = random_transformer(final_layer_compat=compat), transformer_inputs()
    clean = {**inputs, "timestep_B": torch.zeros(2)}
    none_new = torch.zeros(2, 3, dtype=torch.bool)
    with torch.no_grad():
        masked = model(**inputs, frame_mask_Bt=none_new)
        at_zero = model(**clean)
        all_new = model(**inputs, frame_mask_Bt=~none_new)
        plain = model(**inputs)
    torch.testing.assert_close(all_new, plain)
    # the compat flag modulates condition frames twice, which only the right form does not
    assert torch.allclose(masked, at_zero, atol=1e-5) is not compat


def test_dropped_text_is_the_null_text() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    null = model.y_embedder.y_embedding.expand(2, -1, -1)
    mixed = torch.stack((inputs["text_BSD"][0], null[1]))
    with torch.no_grad():
        dropped = model(**inputs, drop_text_B=torch.tensor([False, True]))
        expected = model(**{**inputs, "text_BSD": mixed})
        kept = model(**inputs)
    torch.testing.assert_close(dropped, expected)
    assert not torch.allclose(dropped[1], kept[1], atol=1e-3)


def test_masked_text_tokens_do_not_matter() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    mask = torch.arange(6) < torch.tensor([[2], [4]])
    changed = torch.where(mask[:, :, None], inputs["text_BSD"], torch.tensor(7.0))
    with torch.no_grad():
        one = model(**inputs, text_mask_BS=mask)
        other = model(**{**inputs, "text_BSD": changed}, text_mask_BS=mask)
        without = model(**inputs)
    torch.testing.assert_close(one, other)
    assert not torch.allclose(one, without, atol=1e-3)


def test_frame_embedding_is_an_option_outside_the_state_dict() -> None:
    plain, marked = random_transformer(), random_transformer(temporal_position="rope+sincos")
    assert plain.state_dict().keys() == marked.state_dict().keys()
    inputs = transformer_inputs()
    repeated = {**inputs, "x_BZthw": inputs["x_BZthw"][:, :, :1].expand(-1, -1, 3, -1, -1)}
    with torch.no_grad():
        still, told_apart = plain(**repeated), marked(**repeated)
    # rotary angles alone are relative: equal frames stay equal
    torch.testing.assert_close(still[:, :, 0], still[:, :, 2])
    assert not torch.allclose(told_apart[:, :, 0], told_apart[:, :, 2], atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 5), (7, 5, 2)])
def test_any_latent_size_comes_back(size: tuple[int, int, int]) -> None:
    inputs = {**transformer_inputs(), "x_BZthw": torch.randn(2, 4, *size)}
    with torch.no_grad():
        assert random_transformer(patch_size=(2, 2, 2))(**inputs).shape == (2, 8, *size)


def test_bf16_weights_give_float32_output() -> None:
    model = random_transformer()
    inputs = transformer_inputs()
    with torch.no_grad():
        exact = model(**inputs)
        output = model.to(torch.bfloat16)(**inputs)
    assert output.dtype == torch.float32
    assert (output - exact).abs().max() < 0.05 * exact.abs().max()


def test_frozen_text_projection_gets_no_gradient() -> None:
    model = random_transformer(freeze_text_projection=True)
    model(**transformer_inputs()).square().mean().backward()
    without = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    projection = {f"y_embedder.y_proj.{layer}" for layer in ("fc1", "fc2")}
    assert without == {
        "rope.freqs",
        *(f"{layer}.{kind}" for layer in projection for kind in ("weight", "bias")),
    }


def test_patch_embedding_equals_its_convolution() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    x = inputs["x_BZthw"]
    convolved = rearrange(model.x_embedder.proj(x), "B D t h w -> B t (h w) D")
    torch.testing.assert_close(model.x_embedder(x), convolved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_BZthw": torch.zeros(2, 5, 3, 4, 6)}, r"\(2, 5, 3, 4, 6\).*\(B, 4, t, h, w\)"),
        ({"text_BSD": torch.zeros(2, 7, 12)}, r"\(2, 7, 12\).*at most 6, 12"),
        ({"frame_mask_Bt": torch.ones(2, 4, dtype=torch.bool)}, r"\(2, 4\), not \(2, 3\)"),
    ],
)
def test_wrong_shapes_are_refused_with_the_numbers(
    changes: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        random_transformer()(**{**transformer_inputs(), **changes})


@pytest.mark.parametrize(("width", "num_heads"), [(66, 3), (60, 4), (50, 3)])
def test_impossible_widths_are_refused(width: int, num_heads: int) -> None:
    with pytest.raises(ValidationError, match=f"width={width}"):
        transformer(width=width, num_heads=num_heads)
