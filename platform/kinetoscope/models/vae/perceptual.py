"""LPIPS, the perceptual distance of image pairs, by the ``lpips`` package."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.tensor_files import read_state_dict
from kinetoscope.models.vae.config import PerceptualBackbone


class PerceptualDistance(nn.Module):
    """LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924), version 0.1, frozen.

    The package ships the calibrated linear heads but downloads the backbone; here the backbone
    comes from a file, so that a cluster without internet and a laptop give the same value.

    Args:
        backbone: ``vgg`` for losses (the reference's), ``alex`` or ``squeeze`` for metrics.
        weights_path: torchvision's ImageNet weights of the backbone (``features.*`` tensors), a
            safetensors or a torch file.

    Raises:
        ConfigError: no path is given, or the file lacks a tensor of the backbone.
        NotFoundError: there is no such file.
    """

    def __init__(self, backbone: PerceptualBackbone, weights_path: str | None) -> None:
        super().__init__()
        if weights_path is None:
            raise ConfigError(
                f"LPIPS needs the ImageNet weights of its {backbone} backbone, and none were given",
                hint="set perceptual_weights_path to torchvision's weights, or perceptual_weight=0",
            )
        weights = read_state_dict(Path(weights_path))
        self.net = random_lpips(backbone)
        _load_backbone(self.net, weights, weights_path)
        self.net.requires_grad_(False)

    def forward(self, first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
        """Return the distance ``N`` of images in [-1, 1]; 0 for equal ones, rarely above 1."""
        return cast(Tensor, self.net(first_NCHW, second_NCHW)).flatten()

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Keep evaluation mode: the heads' dropout has no place in a measure."""
        del mode
        return super().train(False)


def random_lpips(backbone: PerceptualBackbone) -> nn.Module:
    """Return the package's LPIPS of images in [-1, 1] with random weights of the backbone."""
    # Importing it costs torchvision; runs without a perceptual loss never pay for it.
    import lpips

    with warnings.catch_warnings():
        # The package calls torchvision by its old argument names.
        warnings.simplefilter("ignore")
        net: Any = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
    return cast(nn.Module, net)


def _load_backbone(net: nn.Module, weights: dict[str, Tensor], path: str) -> None:
    trunk = cast(nn.Module, net.net)
    # The package files torchvision's "features.<i>" under "slice<k>.<i>".
    names = {name: f"features.{name.partition('.')[2]}" for name, _ in trunk.named_parameters()}
    missing = sorted(source for source in names.values() if source not in weights)
    if missing:
        raise ConfigError(
            f"{path} lacks {len(missing)} of the {len(names)} tensors of the LPIPS backbone, "
            f"first {missing[0]}",
            hint="give torchvision's weights of the same backbone (vgg16, alexnet, squeezenet1_1)",
        )
    trunk.load_state_dict({name: weights[source] for name, source in names.items()})
