"""Configs of text encoders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from kinetoscope.core.config_model import Config, Effect


class SeededTableConfig(Config):
    """A frozen table of seeded word vectors: any word has one, nothing is learned or loaded."""

    kind: Literal["seeded_table"] = "seeded_table"
    width: PositiveInt = 64
    max_tokens: PositiveInt = 16
    seed: int = 0


class T5Config(Config):
    """A T5 encoder (Raffel et al. 2020) read from a local folder in transformers' layout."""

    kind: Literal["t5"] = "t5"
    path: Annotated[str, Effect.FILES] = "DeepFloyd/t5-v1_1-xxl"
    """Folder with config, tokenizer and safetensors weights."""
    width: PositiveInt = 4096
    max_tokens: PositiveInt = 300


TextEncoderConfig = Annotated[SeededTableConfig | T5Config, Field(discriminator="kind")]
