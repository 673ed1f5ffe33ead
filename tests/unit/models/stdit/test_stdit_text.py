"""Text without padding: what attends to what, and the forms in which it may come."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny.models import random_transformer, transformer_inputs

from kinetoscope.models.layers.packed_text import attend_jagged, attend_to_packed

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


def test_nothing_is_computed_for_padding() -> None:
    model, rows = random_transformer(), []
    for path in ("y_embedder.y_proj.fc1", "spatial_blocks.0.cross_attn.kv_linear"):
        model.get_submodule(path).register_forward_hook(
            lambda _layer, given, _out: rows.append(given[0].shape[:-1])
        )
    model(**transformer_inputs(), text_mask_BS=MASK)
    assert rows == [(7,), (7,)]


def test_a_sample_without_text_gets_zeros_from_attention() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    crossed = []
    cross = model.get_submodule("spatial_blocks.0.cross_attn")
    cross.register_forward_hook(lambda _layer, _given, out: crossed.append(out))
    bias = cross.get_parameter("proj.bias")
    empty = MASK.clone()
    empty[0] = 0
    model(**inputs, text_mask_BS=empty).square().mean().backward()
    torch.testing.assert_close(crossed[0][0], bias.expand_as(crossed[0][0]))
    assert not torch.allclose(crossed[0][1], bias, atol=1e-3)
    assert all(
        parameter.grad.isfinite().all()
        for parameter in model.parameters()
        if parameter.grad is not None
    )


# Without a GPU torch computes nested attention by its older nested tensors, and says so.
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_one_kernel_for_all_samples_gives_what_one_per_sample_gives() -> None:
    draws = torch.Generator().manual_seed(0)
    results = []
    q, k, v = (torch.randn(*shape, generator=draws) for shape in ((3, 2, 5, 8), *2 * ((9, 2, 8),)))
    for attend in (attend_to_packed, attend_jagged):
        own_q, own_k, own_v = (x.clone().requires_grad_() for x in (q, k, v))
        attended = attend(own_q, own_k, own_v, (2, 4, 3))
        attended.square().sum().backward()
        results.append([attended, own_q.grad, own_k.grad, own_v.grad])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_projected_text_can_be_kept_for_a_model_that_skips_the_projection() -> None:
    model, inputs = random_transformer(), transformer_inputs()
    skipping = random_transformer(skip_text_embedder=True)
    assert skipping.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        expected = model(**inputs, text_mask_BS=MASK)
        kept = model.y_embedder.embed(inputs["text_BSD"], MASK)
        packed = {**inputs, "text_BSD": kept.tokens_PD[None]}
        torch.testing.assert_close(skipping(**packed, text_lengths=kept.lengths), expected)
        lengths = torch.tensor(kept.lengths)
        torch.testing.assert_close(skipping(**packed, text_lengths=lengths), expected)
        padded = {**inputs, "text_BSD": model.y_embedder(inputs["text_BSD"])}
        torch.testing.assert_close(skipping(**padded, text_mask_BS=MASK), expected)


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
