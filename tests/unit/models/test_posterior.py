"""The diagonal Gaussian of latents."""

from __future__ import annotations

import torch

from kinetoscope.models.posterior import Posterior


def test_a_normalised_posterior_draws_the_normalised_draw() -> None:
    torch.manual_seed(0)
    posterior = Posterior(torch.randn(2, 3, 2, 2, 2), torch.randn(2, 3, 2, 2, 2))
    shift, scale = torch.randn(1, 3, 1, 1, 1), torch.tensor([0.5, 2.0, 3.0]).reshape(1, 3, 1, 1, 1)
    noise = torch.randn_like(posterior.mean)
    normalised = posterior.normalized(shift, scale)
    torch.testing.assert_close(normalised.sample(noise), (posterior.sample(noise) - shift) / scale)
    torch.testing.assert_close(normalised.mode(), (posterior.mode() - shift) / scale)


def test_no_shift_and_scale_one_change_no_bit() -> None:
    posterior = Posterior(torch.randn(1, 2, 1, 2, 2), torch.randn(1, 2, 1, 2, 2))
    same = posterior.normalized(torch.zeros(1, 2, 1, 1, 1), torch.ones(1, 2, 1, 1, 1))
    assert torch.equal(same.mean, posterior.mean)
    assert torch.equal(same.logvar, posterior.logvar)
