import torch
from torch import Tensor, nn

from kinetoscope.models.base import Transformer

from .config import PlainConfig


class PlainTransformer(Transformer):
    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.config = config
        self.mix = nn.Conv3d(config.in_channels, config.width, 1)
        self.told = nn.Linear(config.text_width + 1, config.width)
        self.out = nn.Conv3d(config.width, config.in_channels, 1)

    def forward(
        self, x: Tensor, time: Tensor, text: Tensor, mask: Tensor, **others: Tensor | None
    ) -> Tensor:
        drop = others["drop_text_B"]
        pooled = (text * mask[..., None]).mean(1)
        pooled = pooled if drop is None else pooled * ~drop[:, None]
        condition = self.told(torch.cat([pooled, time[:, None] / 1000], 1))
        velocity: Tensor = self.out(torch.tanh(self.mix(x) + condition[:, :, None, None, None]))
        return velocity.float()


MODEL = PlainTransformer
