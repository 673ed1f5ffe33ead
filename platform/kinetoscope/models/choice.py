"""Fields for the models of a run: any kind that is installed."""

from __future__ import annotations

from typing import Annotated, cast

from pydantic import SerializeAsAny

from kinetoscope.models.config import TransformerConfig, VideoAutoencoderConfig
from kinetoscope.models.kinds import OfKind, config_class

# Where a config names no kind: Open-Sora 1.2's models.
DEFAULT_TRANSFORMER = "stdit"
DEFAULT_VIDEO_AUTOENCODER = "vae"

AnyTransformer = Annotated[
    SerializeAsAny[TransformerConfig], OfKind(TransformerConfig, DEFAULT_TRANSFORMER)
]
AnyVideoAutoencoder = Annotated[
    SerializeAsAny[VideoAutoencoderConfig],
    OfKind(VideoAutoencoderConfig, DEFAULT_VIDEO_AUTOENCODER),
]


def default_transformer() -> TransformerConfig:
    """Return the config of the transformer that is trained when nothing is said."""
    return cast(TransformerConfig, config_class(DEFAULT_TRANSFORMER)())  # type: ignore[call-arg]


def default_video_autoencoder() -> VideoAutoencoderConfig:
    """Return the config of the autoencoder that is used when nothing is said."""
    return cast(VideoAutoencoderConfig, config_class(DEFAULT_VIDEO_AUTOENCODER)())  # type: ignore[call-arg]
