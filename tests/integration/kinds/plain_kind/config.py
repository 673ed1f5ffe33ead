from typing import Literal

from pydantic import PositiveInt

from kinetoscope.models.config import TransformerConfig


class PlainConfig(TransformerConfig):
    kind: Literal["plain"] = "plain"
    width: PositiveInt = 8

    def flops(self, latent_size: tuple[int, int, int]) -> float:
        frames, per_frame = self.tokens(latent_size)
        return 4.0 * frames * per_frame * self.width


MODEL_CONFIG = PlainConfig
