"""What the models of a run must agree on."""

from __future__ import annotations

from kinetoscope.models.config import TransformerConfig, VideoAutoencoderConfig
from kinetoscope.models.text.config import TextEncoderConfig


def check_models_agree(
    autoencoder: VideoAutoencoderConfig,
    transformer: TransformerConfig,
    text_encoder: TextEncoderConfig,
    *,
    names: tuple[str, str],
) -> None:
    """Raise ``ValueError`` where the transformer does not take what the others give.

    Args:
        autoencoder: its latents are denoised.
        transformer: takes both.
        text_encoder: its embeddings are the condition.
        names: under which the config has the autoencoder and the transformer.
    """
    vae, dit = names
    if text_encoder.width != transformer.text_width:
        raise ValueError(
            f"text_encoder.width={text_encoder.width} must equal "
            f"{dit}.text_width={transformer.text_width}"
        )
    if text_encoder.max_tokens > transformer.max_text_tokens:
        raise ValueError(
            f"text_encoder.max_tokens={text_encoder.max_tokens} must not be above "
            f"{dit}.max_text_tokens={transformer.max_text_tokens}"
        )
    if autoencoder.latent_channels != transformer.latent_channels:
        raise ValueError(
            f"{dit}.in_channels={transformer.latent_channels} must equal the latent channels of "
            f"{vae}, {autoencoder.latent_channels}"
        )
