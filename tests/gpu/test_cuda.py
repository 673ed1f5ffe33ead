"""The models on a GPU give what they give on the CPU."""

from __future__ import annotations

import pytest
import torch

from kinetoscope.config.load import load_config
from kinetoscope.models.base import build_autoencoder, build_transformer
from kinetoscope.models.device import compute_device
from kinetoscope.models.layers.packed_text import attend_jagged, attend_to_packed

pytestmark = pytest.mark.gpu


def test_the_video_vae_reconstructs_the_same() -> None:
    vae = build_autoencoder(load_config("tiny").config.models.vae).eval()
    video = torch.rand(1, 3, 17, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = vae.decode(vae.encode(video).mode(), 17)
        vae.to(compute_device())
        latents = vae.encode(video.to(compute_device())).mode()
        actual = vae.decode(latents, 17).cpu()
    torch.testing.assert_close(actual, expected, atol=2e-2, rtol=0)


def test_the_transformer_predicts_the_same() -> None:
    config = load_config("tiny").config.models.dit
    model = build_transformer(config).eval()
    generator = torch.Generator().manual_seed(0)
    inputs = (
        torch.randn(2, config.in_channels, 5, 8, 8, generator=generator),
        torch.tensor([100.0, 900.0]),
        torch.randn(2, config.max_text_tokens, config.text_width, generator=generator),
    )
    sizes = {
        "height_B": torch.full((2,), 32.0),
        "width_B": torch.full((2,), 32.0),
        "fps_B": torch.full((2,), 8.0),
    }
    device = compute_device()
    with torch.no_grad():
        expected = model(*inputs, **sizes)
        model.to(device)
        on_gpu = {name: value.to(device) for name, value in sizes.items()}
        actual = model(*(value.to(device) for value in inputs), **on_gpu).cpu()
    torch.testing.assert_close(actual, expected, atol=2e-2, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(5, 300, 31), (0, 7, 9), (4, 4, 4)])
def test_packed_text_attention_is_the_same_in_one_kernel(
    dtype: torch.dtype, lengths: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 50, 72), *2 * ((sum(lengths), 4, 72),))
    q, k, v = (torch.randn(*shape, generator=generator).to(dtype).float() for shape in shapes)
    results = []
    for attend, device, precision in (
        (attend_to_packed, torch.device("cpu"), torch.float32),
        (attend_jagged, compute_device(), dtype),
    ):
        inputs = [x.to(device, precision).requires_grad_() for x in (q, k, v)]
        attended = attend(inputs[0], inputs[1], inputs[2], lengths)
        attended.float().square().sum().backward()
        results.append([attended, *(x.grad for x in inputs)])
    for expected, actual in zip(*results, strict=True):
        assert expected is not None
        assert actual is not None
        torch.testing.assert_close(actual.cpu().float(), expected, atol=5e-2, rtol=5e-2)


def test_text_of_mixed_lengths_predicts_the_same() -> None:
    config = load_config("tiny").config.models.dit
    model = build_transformer(config).eval()
    generator = torch.Generator().manual_seed(0)
    tokens = config.max_text_tokens
    mask = torch.arange(tokens) < torch.tensor([[2], [tokens], [1]])
    inputs = (
        torch.randn(3, config.in_channels, 2, 8, 8, generator=generator),
        torch.tensor([100.0, 500.0, 900.0]),
        torch.randn(3, tokens, config.text_width, generator=generator),
        mask,
    )
    sizes = {name: torch.full((3,), 32.0) for name in ("height_B", "width_B", "fps_B")}
    device = compute_device()
    with torch.no_grad():
        expected = model(*inputs, **sizes)
        model.to(device)
        on_gpu = {name: value.to(device) for name, value in sizes.items()}
        actual = model(*(value.to(device) for value in inputs), **on_gpu).cpu()
    torch.testing.assert_close(actual, expected, atol=2e-2, rtol=0)
