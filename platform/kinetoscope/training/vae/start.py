"""Where the weights of a video VAE come from when its training begins."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.weights.load import load_weights
from kinetoscope.models.weights.open_sora.layouts import (
    from_diffusers_vae,
    is_video_vae,
    spatial_part,
)
from kinetoscope.models.weights.report import LoadReport


def start_video_vae(vae: VideoVAE, weights: Mapping[str, Tensor]) -> LoadReport:
    """Set a video VAE from weights of its own, or the spatial VAE inside it from a spatial VAE's.

    Args:
        vae: is changed in place.
        weights: by our names, the reference's or diffusers'.

    Raises:
        ConfigError: the weights do not fit.
    """
    if is_video_vae(weights):
        return load_weights(vae, from_diffusers_vae(weights))
    return load_weights(vae.spatial_vae.module, spatial_part(weights))
