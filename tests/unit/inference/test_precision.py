"""The precision of generation is a setting, and what it decides stays within its bounds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinetoscope.inference.bundle import Bundle
from kinetoscope.inference.config import ClipRequest
from kinetoscope.inference.pipeline import TextToVideo
from kinetoscope.models.base import build_transformer
from kinetoscope.models.device import Compute

BF16 = Compute(torch.device("cpu"), "bf16")
REQUEST = ClipRequest(prompt="a red circle", seed=3, num_steps=3, guidance=3.0)


def test_half_precision_generates_nearly_the_same_clip_and_always_the_same(bundle: Bundle) -> None:
    exact = TextToVideo(bundle).generate(REQUEST).astype(float)
    models = TextToVideo(bundle, BF16)
    rough = models.generate(REQUEST)
    assert (rough == models.generate(REQUEST)).all()
    difference = np.abs(exact - rough)
    assert 0 < difference.mean() < 4


def test_the_latents_between_steps_are_exact_floats(bundle: Bundle) -> None:
    models = TextToVideo(bundle, BF16)
    latents: list[Tensor] = []
    products: list[torch.dtype] = []
    models.dit.register_forward_pre_hook(lambda _, inputs: latents.append(inputs[0]))
    linear = next(m for m in models.dit.modules() if isinstance(m, torch.nn.Linear))
    linear.register_forward_hook(lambda *call: products.append(call[2].dtype))
    models.generate(REQUEST)
    assert {z.dtype for z in latents} == {torch.float32}
    assert set(products) == {torch.bfloat16}
    # The first are noise; later ones are no multiples of what bfloat16 can tell.
    assert any((z != z.bfloat16()).any() for z in latents[1:])


def test_other_weights_of_the_transformer_share_the_other_models(bundle: Bundle) -> None:
    models = TextToVideo(bundle)
    torch.manual_seed(1)
    weights = build_transformer(bundle.spec.dit).state_dict()
    other = models.with_transformer(weights)
    assert other.vae is models.vae
    assert other.text_encoder is models.text_encoder
    expected = TextToVideo(Bundle(bundle.spec, bundle.vae, weights)).generate(REQUEST)
    assert (other.generate(REQUEST) == expected).all()
    assert (models.generate(REQUEST) == TextToVideo(bundle).generate(REQUEST)).all()
