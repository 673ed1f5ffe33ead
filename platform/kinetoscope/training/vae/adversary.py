"""The discriminator of a VAE stage, and its part of the stage's loss."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.func import functional_call

from kinetoscope.checkpoints.restore import restore_weights
from kinetoscope.models.tensor_files import read_state_dict
from kinetoscope.models.vae.adversarial.discriminators import build_discriminator, inflated
from kinetoscope.models.vae.adversarial.losses import AdversarialLoss
from kinetoscope.training.loop.initial import initialised
from kinetoscope.training.vae.config import AdversarialConfig


class Adversary(nn.Module):
    """Both players' losses of one batch, to be summed into one loss.

    The generator's loss sees the discriminator as a constant and the discriminator's sees the
    reconstruction as one, so that one backward pass gives either player its own gradient, as two
    passes would.

    Args:
        config: of the game.
    """

    parts = ("generator", "discriminator", "lecam", "gradient_penalty")

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__()
        self.config = config
        self.discriminator = build_discriminator(config.discriminator)
        self.losses = AdversarialLoss(config)

    def forward(
        self,
        decoded_BCTHW: Tensor,
        pixels_BCTHW: Tensor,
        *,
        reconstruction_B: Tensor,
        last_layer: Tensor,
        step: int,
    ) -> dict[str, Tensor]:
        """Return the terms of both players, each ``B``; none before the game's first step.

        Terms are of the whole batch: each of its samples gets the same value.

        Args:
            decoded_BCTHW: reconstructions, with their graph.
            pixels_BCTHW: what they should be.
            reconstruction_B: their loss, without the KL.
            last_layer: of the generator, for the adaptive weight.
            step: optimizer steps done.
        """
        if not self.losses.started(step):
            return {}
        generator = self.losses.generator(
            self._constant_discriminator(decoded_BCTHW),
            reconstruction_B.mean(),
            last_layer,
            step=step,
        )
        terms = {"generator": generator, **self._judge(decoded_BCTHW, pixels_BCTHW, step)}
        return {name: term.expand(decoded_BCTHW.shape[0]) for name, term in terms.items()}

    def _judge(self, decoded_BCTHW: Tensor, pixels_BCTHW: Tensor, step: int) -> dict[str, Tensor]:
        needs_gradient = self.config.gradient_penalty_weight > 0
        real_pixels = pixels_BCTHW.detach().requires_grad_(needs_gradient)
        real = self.discriminator(real_pixels).float()
        fake = self.discriminator(decoded_BCTHW.detach()).float()
        terms = self.losses.discriminator(real, fake, step=step, real_pixels=real_pixels)
        self.losses.averages.update(real, fake)
        return terms

    def _constant_discriminator(self, decoded_BCTHW: Tensor) -> Tensor:
        """Judge without teaching the discriminator or moving its running statistics."""
        module = self.discriminator
        constants = {name: p.detach() for name, p in module.named_parameters()}
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        logits: Tensor = functional_call(module, {**constants, **buffers}, (decoded_BCTHW,))
        return logits.float()


def start_adversary(config: AdversarialConfig, *key: int | str) -> Adversary:
    """Return the adversary with its starting weights: from the config's file, else random.

    Args:
        config: of the game.
        key: parts of the random key of its weights.

    Raises:
        NotFoundError: there is no such file.
        CorruptError: its weights do not fit the discriminator.
    """
    adversary = initialised(lambda: Adversary(config), "discriminator", *key)
    if config.weights is not None:
        weights = inflated(read_state_dict(Path(config.weights)), adversary.discriminator)
        restore_weights(adversary.discriminator, weights)
    return adversary
