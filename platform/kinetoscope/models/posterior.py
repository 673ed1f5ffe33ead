"""The diagonal Gaussian that a VAE's encoder emits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from kinetoscope.models.dtypes import widened

_LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True, slots=True)
class Posterior:
    """A diagonal Gaussian over latents, ``B Z ...``.

    Attributes:
        mean: mean of every latent element.
        logvar: natural logarithm of its variance, in [-30, 20].
        deterministic: of a plain autoencoder: samples are the mean, ``kl`` and ``nll`` are 0.
    """

    mean: Tensor
    logvar: Tensor
    deterministic: bool = False

    @classmethod
    def from_moments(cls, moments: Tensor, *, deterministic: bool = False) -> Self:
        """Split ``B 2Z ...`` into mean and log-variance; the latter is clamped to [-30, 20]."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(*_LOGVAR_RANGE), deterministic)

    @classmethod
    def cat(cls, pieces: Sequence[Posterior], *, dim: int) -> Self:
        """Join posteriors of consecutive pieces along ``dim``."""
        return cls(
            torch.cat([piece.mean for piece in pieces], dim),
            torch.cat([piece.logvar for piece in pieces], dim),
            all(piece.deterministic for piece in pieces),
        )

    @property
    def std(self) -> Tensor:
        """Standard deviation of every element."""
        return torch.zeros_like(self.mean) if self.deterministic else (0.5 * self.logvar).exp()

    @property
    def var(self) -> Tensor:
        """Variance of every element."""
        return torch.zeros_like(self.mean) if self.deterministic else self.logvar.exp()

    def mode(self) -> Tensor:
        """Return the most probable latents (the mean)."""
        return self.mean

    def normalized(self, shift: Tensor, scale: Tensor) -> Posterior:
        """Return the posterior of ``(z - shift) / scale``; the log-variance may leave its range."""
        logvar = self.logvar - 2 * scale.abs().log()
        return Posterior((self.mean - shift) / scale, logvar, self.deterministic)

    def sample(self, noise: Tensor) -> Tensor:
        """Return the draw that belongs to ``noise``, standard normal of the mean's shape."""
        return torch.addcmul(self.mean, self.std, noise)

    def kl(self, other: Posterior | None = None) -> Tensor:
        """Return the KL divergence from ``other`` (default: the standard normal).

        Returns:
            ``B``: nats, summed over all but the batch dimension, in fp32 of half precision too.
        """
        if self.deterministic:
            return self.mean.new_zeros(self.mean.shape[0])
        mean, logvar = widened(self.mean), widened(self.logvar)
        if other is None:
            terms = mean.square() + logvar.exp() - 1.0 - logvar
        else:
            spread = ((mean - other.mean).square() + logvar.exp()) / other.var
            terms = spread - 1.0 - logvar + other.logvar
        return 0.5 * terms.flatten(1).sum(1)

    def nll(self, sample: Tensor) -> Tensor:
        """Return the negative log-likelihood of ``sample``: ``B``, nats, summed like `kl`."""
        if self.deterministic:
            return self.mean.new_zeros(self.mean.shape[0])
        terms = math.log(2 * math.pi) + self.logvar + (sample - self.mean).square() / self.var
        return 0.5 * terms.flatten(1).sum(1)
