"""The losses of an adversarial game between a VAE (the generator) and a discriminator.

Logits are positive for what is thought real. All losses are means over a batch's logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinetoscope.models.vae.adversarial.config import AdversarialKind, AdversarialLossConfig

_GRADIENT_EPS = 1e-4
_MAX_ADAPTIVE_WEIGHT = 1e4


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: AdversarialKind) -> Tensor:
    """Return the discriminator's loss.

    ``hinge``: Lim and Ye 2017, https://arxiv.org/abs/1705.02894; ``vanilla`` and
    ``non-saturating``: cross-entropy (Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661), the
    two differ for the generator only. Half the sum of the means of the two sides.
    """
    if kind == "hinge":
        return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())
    real = sigmoid_cross_entropy(real_logits, is_real=True)
    return 0.5 * (real.mean() + sigmoid_cross_entropy(fake_logits, is_real=False).mean())


def generator_loss(fake_logits: Tensor, kind: AdversarialKind) -> Tensor:
    """Return the generator's loss.

    ``hinge``: minus the logits; ``non-saturating``: ``-log D``; ``vanilla``: ``log(1 - D)``, the
    minimax game's own, whose gradient vanishes where the discriminator is sure. With ``D`` the
    logits' sigmoid. The reference accepts ``vanilla`` and fails at the first step.
    """
    if kind == "hinge":
        return -fake_logits.mean()
    if kind == "vanilla":
        return -sigmoid_cross_entropy(fake_logits, is_real=False).mean()
    return sigmoid_cross_entropy(fake_logits, is_real=True).mean()


def sigmoid_cross_entropy(logits: Tensor, *, is_real: bool) -> Tensor:
    """Return ``-log D`` of real clips, ``-log(1 - D)`` of fake ones, of the logits' shape."""
    return F.softplus(-logits if is_real else logits)


def lecam_penalty(
    real_logits: Tensor, fake_logits: Tensor, *, ema_real: Tensor, ema_fake: Tensor
) -> Tensor:
    """Return the LeCam regularisation (Tseng et al. 2021, https://arxiv.org/abs/2104.03310).

    Args:
        real_logits: of the batch's real clips.
        fake_logits: of its reconstructions.
        ema_real: running mean of real logits, a scalar.
        ema_fake: of fake logits.
    """
    real, fake = real_logits.mean(), fake_logits.mean()
    penalty: Tensor = F.relu(real - ema_fake).square() + F.relu(ema_real - fake).square()
    return penalty


def gradient_penalty(pixels: Tensor, logits: Tensor) -> Tensor:
    """Return how far the norms of the logits' gradients are from 1, squared.

    Gulrajani et al. 2017 (https://arxiv.org/abs/1704.00028), taken at real clips as the reference
    does, not between real and fake ones.

    Args:
        pixels: ``B ...`` that require a gradient and gave the logits.
        logits: of them, of any shape.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pixels, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Return the ratio of two losses' gradients at the generator's last layer, at most 1e4.

    Esser et al. 2021 (VQGAN, https://arxiv.org/abs/2012.09841), equation 7. Detached.

    Args:
        reconstruction: scalar loss.
        adversarial: scalar generator loss, without weight.
        last_layer: parameter that both depend on.
    """
    (towards_target,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (towards_real,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    ratio: Tensor = towards_target.norm() / (towards_real.norm() + _GRADIENT_EPS)
    return ratio.clamp(max=_MAX_ADAPTIVE_WEIGHT).detach()


class LogitAverages(nn.Module):
    """Exponential moving averages of a discriminator's logits, for `lecam_penalty`.

    Args:
        decay: share that each batch keeps.
        real: first value of the average over real clips.
        fake: first value of that over reconstructions.
    """

    real: Tensor
    fake: Tensor

    def __init__(self, decay: float = 0.999, *, real: float = 0.0, fake: float = 0.0) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real", torch.tensor(real))
        self.register_buffer("fake", torch.tensor(fake))

    @torch.no_grad()
    def update(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Move the averages towards a batch's mean logits."""
        for average, logits in ((self.real, real_logits), (self.fake, fake_logits)):
            average.copy_(self.decay * average + (1 - self.decay) * logits.mean())


class AdversarialLoss(nn.Module):
    """Both players' losses with the config's weights, both 0 before ``start_step``.

    Args:
        config: kinds and weights.
    """

    def __init__(self, config: AdversarialLossConfig) -> None:
        super().__init__()
        self.config = config
        self.averages = LogitAverages(config.lecam_decay)

    def started(self, step: int) -> bool:
        """Tell whether the game is played at an optimizer step (counted from 0)."""
        return step >= self.config.start_step

    def generator(
        self, fake_logits: Tensor, reconstruction: Tensor, last_layer: Tensor, *, step: int
    ) -> Tensor:
        """Return the generator's weighted loss.

        Args:
            fake_logits: of the reconstructions, with a graph to the generator.
            reconstruction: the batch's mean reconstruction loss, likewise.
            last_layer: parameter for `adaptive_weight`.
            step: optimizer steps done.
        """
        config = self.config
        if not self.started(step):
            return fake_logits.new_zeros(())
        loss = generator_loss(fake_logits, config.generator_loss)
        weight = config.generator_factor * config.discriminator_factor
        if config.adaptive:
            return weight * adaptive_weight(reconstruction, loss, last_layer) * loss
        return weight * loss

    def discriminator(
        self,
        real_logits: Tensor,
        fake_logits: Tensor,
        *,
        step: int,
        real_pixels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return ``discriminator``, ``lecam`` and ``gradient_penalty``; sum them.

        A term with weight 0 is left out. The start step holds back the first term alone, as in
        the reference. Call ``averages.update`` after it.

        Args:
            real_logits: of real clips.
            fake_logits: of reconstructions, detached from the generator.
            step: optimizer steps done.
            real_pixels: ``B ...`` that gave ``real_logits`` and require a gradient; needed where
                the gradient penalty has a weight.

        Raises:
            ValueError: they are needed and missing.
        """
        config, averages = self.config, self.averages
        factor = config.discriminator_factor if self.started(step) else 0.0
        loss = discriminator_loss(real_logits, fake_logits, config.discriminator_loss)
        terms = {"discriminator": factor * loss}
        if config.lecam_weight > 0:
            # Copies, since the averages are updated in place before the backward pass.
            real, fake = averages.real.clone(), averages.fake.clone()
            penalty = lecam_penalty(real_logits, fake_logits, ema_real=real, ema_fake=fake)
            terms["lecam"] = config.lecam_weight * penalty
        if config.gradient_penalty_weight > 0:
            if real_pixels is None:
                raise ValueError("gradient_penalty_weight > 0 needs real_pixels")
            penalty = gradient_penalty(real_pixels, real_logits)
            terms["gradient_penalty"] = config.gradient_penalty_weight * penalty
        return terms
