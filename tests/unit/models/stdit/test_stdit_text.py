"""Text without padding: what attends to what, and the forms in which it may come."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny.gpu_kernels import gpu_kernels_on_the_cpu
from tiny.models import random_transformer, transformer_inputs
from torch import Tensor

from kinetoscope.models.layers import packed_kernels
from kinetoscope.models.layers.packed_text import pack

MASK = torch.tensor([[0, 1, 0, 0, 1, 0], [1, 1, 1, 0, 1, 1]])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_each_sample_attends_to_its_own_tokens_whatever_the_pattern() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    with torch.no_grad():
        together = model(**inputs, text_mask_BS=MASK)
        for index, mask in enumerate(MASK.bool()):
            alone = {key: value[index : index + 1] for key, value in inputs.items()}
            alone["text_BSD"] = alone["text_BSD"][:, mask]
            torch.testing.assert_close(model(**alone)[0], together[index])


def test_little_is_computed_for_padding() -> None:
    model, rows = random_transformer(max_text_tokens=300), []
    for path in ("y_embedder.y_proj.fc1", "spatial_blocks.0.cross_attn.kv_linear"):
        model.get_submodule(path).register_forward_hook(
            lambda _layer, given, _out: rows.append(given[0].shape[:-1])
        )
    lengths = torch.tensor([[100], [157]])
    texts = {"text_BSD": torch.randn(2, 300, 12), "text_mask_BS": torch.arange(300) < lengths}
    model(**transformer_inputs() | texts)
    assert rows == [(512,), (512,)]
    rows.clear()
    model(**transformer_inputs(), text_mask_BS=MASK)
    assert rows == [(12,), (12,)], "no more than padded text has"


@pytest.mark.parametrize("kernel", ["loop", "flash", "efficient"])
@pytest.mark.parametrize("empty", [[0], [0, 1]], ids=["one", "all"])
def test_a_sample_without_text_gets_zeros_from_attention(
    empty: list[int], kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel != "loop":
        monkeypatch.setattr(packed_kernels, "kernel_for", lambda *_given: kernel)
    mask = MASK.clone()
    mask[empty] = 0
    with gpu_kernels_on_the_cpu():
        crossed, bias, text_grad, gradients = _attended(mask)
    for sample in range(2):
        zeros = torch.allclose(crossed[sample], bias.expand_as(crossed[sample]), atol=1e-6)
        assert zeros is (sample in empty)
    assert not text_grad[mask == 0].any()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    projection = gradients["spatial_blocks.0.cross_attn.kv_linear.weight"]
    assert bool(projection.any()) is (len(empty) == 1)


def _attended(mask: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Return what cross-attention gives, its bias, and the gradients of texts and weights."""
    model, inputs = random_transformer(), transformer_inputs()
    crossed = []
    cross = model.get_submodule("spatial_blocks.0.cross_attn")
    cross.register_forward_hook(lambda _layer, _given, out: crossed.append(out.detach()))
    # Tokens that don't count may be anything.
    text = inputs["text_BSD"].masked_fill(mask[..., None] == 0, torch.nan).requires_grad_()
    model(**{**inputs, "text_BSD": text}, text_mask_BS=mask).square().mean().backward()
    assert text.grad is not None
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return crossed[0], cross.get_parameter("proj.bias").detach(), text.grad, gradients


@pytest.mark.parametrize("kernel", ["flash", "efficient"])
def test_gpu_kernels_give_what_the_loop_gives(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.cat((MASK[:1], torch.zeros_like(MASK[:1])))
    expected = _attended(mask)
    monkeypatch.setattr(packed_kernels, "kernel_for", lambda *_given: kernel)
    with gpu_kernels_on_the_cpu() as stand_in:
        actual = _attended(mask)
    assert len(stand_in.calls) == 8
    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[2], expected[2])
    for name, gradient in expected[3].items():
        torch.testing.assert_close(actual[3][name], gradient, atol=1e-5, rtol=1e-4)


def test_packed_text_comes_with_its_places() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    drop = torch.tensor([False, True])
    rows, places = pack(inputs["text_BSD"], MASK)
    packed = {**inputs, "text_BSD": rows, "text_places_P2": places}
    with torch.no_grad():
        expected = model(**inputs, text_mask_BS=MASK, drop_text_B=drop)
        assert torch.equal(model(**packed, drop_text_B=drop), expected)
        assert not torch.allclose(model(**packed), expected, atol=1e-3)
    with pytest.raises(ValueError, match="not 11 rows that are 12 wide"):
        model(**{**packed, "text_places_P2": places[1:]})


def test_projected_text_can_be_kept_for_a_model_that_skips_the_projection() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    skipping = random_transformer(skip_text_embedder=True)
    assert skipping.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        expected = model(**inputs, text_mask_BS=MASK)
        kept = model.y_embedder(inputs["text_BSD"])
        torch.testing.assert_close(
            skipping(**{**inputs, "text_BSD": kept}, text_mask_BS=MASK), expected
        )
        packed = {**inputs, "text_BSD": kept[MASK.bool()][None]}
        for lengths in (MASK.sum(dim=1).tolist(), MASK.sum(dim=1)):
            torch.testing.assert_close(skipping(**packed, text_lengths=lengths), expected)


def test_weights_of_a_skipped_projection_ask_for_no_gradient() -> None:
    model = random_transformer(skip_text_embedder=True)
    model(**{**transformer_inputs(), "text_BSD": torch.randn(2, 6, 32)}).mean().backward()
    without = {key for key, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without


def test_text_that_was_not_projected_may_come_packed_too() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    packed = {**inputs, "text_BSD": inputs["text_BSD"][MASK.bool()][None]}
    with torch.no_grad():
        torch.testing.assert_close(
            model(**packed, text_lengths=(2, 5)), model(**inputs, text_mask_BS=MASK)
        )


def test_fewer_rows_of_masks_and_frame_rates_are_repeated_in_turn() -> None:
    model, inputs = random_transformer(), transformer_inputs(4)
    rates = torch.tensor([24.0, 12.0])
    with torch.no_grad():
        given = model(**{**inputs, "fps_B": rates}, text_mask_BS=MASK)
        full = model(**{**inputs, "fps_B": rates.repeat(2)}, text_mask_BS=MASK.repeat(2, 1))
    assert torch.equal(given, full)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_mask_BS": torch.ones(3, 6)}, "text mask has 3 rows.*repeated to 2"),
        ({"text_mask_BS": torch.ones(2, 5)}, r"text mask is \(2, 5\), not \(2, 6\)"),
        ({"fps_B": torch.ones(3)}, "fps has 3 rows.*repeated to 2"),
        ({"text_lengths": (6, 6), "text_mask_BS": MASK}, "takes no text mask"),
        ({"text_places_P2": torch.ones(2, 2), "text_mask_BS": MASK}, "takes no text mask"),
        ({"text_lengths": (6, 6)}, r"packed text is \(2, 6, 12\), not \(1, sum"),
        ({"text_lengths": (6,), "text_BSD": torch.zeros(1, 6, 12)}, "1 texts for 2 latents"),
        ({"text_lengths": (6, 6), "text_BSD": torch.zeros(1, 12, 9)}, "12 wide"),
    ],
)
def test_text_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_transformer()(**{**transformer_inputs(), **changes})


def test_a_model_without_projection_can_not_drop_text() -> None:
    inputs = {**transformer_inputs(), "text_BSD": torch.zeros(2, 6, 32)}
    with pytest.raises(ValueError, match="drop_text_B needs the text embedder"):
        random_transformer(skip_text_embedder=True)(
            **inputs, drop_text_B=torch.tensor([True, False])
        )


def test_each_sample_has_a_word_on_whether_its_text_is_dropped() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    with pytest.raises(ValueError, match="drop_text_B has 1 entries for 2 samples"):
        model(**inputs, text_mask_BS=MASK, drop_text_B=torch.tensor([True]))


def test_packed_text_of_fewer_samples_than_latents_is_refused() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    rows, places = pack(inputs.pop("text_BSD")[:1], None)
    with pytest.raises(ValueError, match="samples needs a row of text"):
        model(**inputs, text_BSD=rows, text_places_P2=places)
