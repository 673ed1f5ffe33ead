"""Configs of discriminators and of the game against them; defaults are Open-Sora 1.2's."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from kinetoscope.core.config_model import Config

AdversarialKind = Literal["hinge", "vanilla", "non-saturating"]


class AdversarialLossConfig(Config):
    """What generator and discriminator play for; the defaults are Open-Sora 1.2's."""

    discriminator_loss: AdversarialKind = "hinge"
    generator_loss: AdversarialKind = "hinge"
    discriminator_factor: float = Field(default=1.0, ge=0)
    """Weight of both players' losses."""
    generator_factor: float = Field(default=0.5, ge=0)
    """Further weight of the generator's."""
    adaptive: bool = True
    """Balance the generator's loss with the reconstruction by their gradients at the last layer."""
    start_step: NonNegativeInt = 0
    """First optimizer step (from 0) at which the game is played."""
    lecam_weight: float = Field(default=0.0, ge=0)
    """Weight of the discriminator's LeCam regularisation."""
    lecam_decay: float = Field(default=0.999, ge=0, lt=1)
    """Share of the averaged logits that each batch keeps."""
    gradient_penalty_weight: float = Field(default=0.0, ge=0)
    """Weight of the penalty on the discriminator's gradient at real pixels."""


class PatchDiscriminatorConfig(Config):
    """A PatchGAN discriminator: a verdict for every patch, of frames or of whole clips."""

    kind: Literal["patch2d", "patch3d"] = "patch2d"
    in_channels: PositiveInt = 3
    base_width: PositiveInt = 64
    num_layers: PositiveInt = 3
    """Halvings of height and width."""

    @property
    def min_size(self) -> tuple[int, int, int]:
        """Fewest frames, rows and columns that give a verdict."""
        side = 3 * 2**self.num_layers
        return (2 * (self.num_layers + 2) if self.kind == "patch3d" else 1, side, side)


class StyleDiscriminatorConfig(Config):
    """A residual, blur-pooled 3D discriminator with one verdict per clip of any size."""

    kind: Literal["style3d"] = "style3d"
    in_channels: PositiveInt = 3
    base_width: PositiveInt = 128
    multipliers: tuple[PositiveInt, ...] = Field(default=(2, 4, 4, 4, 4), min_length=1)
    """Width of each block, which halves frames, height and width, over ``base_width``."""
    norm_groups: PositiveInt = 32

    @property
    def min_size(self) -> tuple[int, int, int]:
        """Fewest frames, rows and columns that give a verdict."""
        return (1, 1, 1)

    @model_validator(mode="after")
    def _groups_divide_widths(self) -> Self:
        if self.base_width % self.norm_groups:
            raise ValueError(
                f"norm_groups={self.norm_groups} must divide base_width={self.base_width}"
            )
        return self


DiscriminatorConfig = Annotated[
    PatchDiscriminatorConfig | StyleDiscriminatorConfig, Field(discriminator="kind")
]
