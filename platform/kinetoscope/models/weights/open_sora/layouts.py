"""Names and shapes of other writers' weights, turned into ours.

Every function takes tensors by name and gives lazily read ones; nothing is read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.tensor_files import LazyWeights
from kinetoscope.models.vae.config import VideoVAEConfig

Reader = Callable[[], Tensor]

_WRAPPER = "module."
_TEMPORAL_PREFIX = "temporal_vae."
_SPATIAL_PREFIX = "spatial_vae.module."
_PIXART_DROPPED = ("pos_embed", "csize_embedder.", "ar_embedder.")
_PIXART_NEW = re.compile(
    r"temporal_blocks\..*|fps_embedder\..*|rope\.freqs|.*\.attn\.[qk]_norm\.weight"
)
_OLD_ATTENTION = re.compile(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn|to_out)\.(\w+)")
_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def unwrapped(weights: Mapping[str, Tensor]) -> LazyWeights:
    """Drop the prefix ``module.`` that data-parallel wrappers put before every name."""
    readers = _readers(weights)
    if readers and all(name.startswith(_WRAPPER) for name in readers):
        readers = {name.removeprefix(_WRAPPER): read for name, read in readers.items()}
    return LazyWeights(readers)


def is_pixart(weights: Mapping[str, Tensor]) -> bool:
    """Tell whether these are PixArt's weights: image blocks alone, named ``blocks``."""
    names = unwrapped(weights)
    return any(name.startswith("blocks.") for name in names) and not any(
        name.startswith("spatial_blocks.") for name in names
    )


def is_video_vae(weights: Mapping[str, Tensor]) -> bool:
    """Tell whether these are a whole video VAE's weights rather than a spatial VAE's."""
    return any(name.startswith(_SPATIAL_PREFIX) for name in unwrapped(weights))


def from_pixart(weights: Mapping[str, Tensor], text_tokens: int) -> LazyWeights:
    """Return PixArt-Sigma's (or -alpha's) weights as those of STDiT3's spatial half.

    Fixed positions and the embeddings of sizes and ratios are dropped. The null text is cut, or
    made longer by repeating its last row (Open-Sora 1.2 does the same).

    Args:
        weights: in the layout of PixArt's own files (``.pth``), not of diffusers.
        text_tokens: ``max_text_tokens`` of the transformer.
    """
    readers: dict[str, Reader] = {}
    for name, read in unwrapped(weights).readers.items():
        if name.startswith(_PIXART_DROPPED):
            continue
        if name == "x_embedder.proj.weight":
            read = partial(_with_time, read)
        elif name == "y_embedder.y_embedding":
            read = partial(_of_length, read, text_tokens)
        readers[re.sub(r"^blocks\.", "spatial_blocks.", name)] = read
    return LazyWeights(readers)


def new_beside_pixart(name: str) -> bool:
    """Tell whether a tensor of STDiT3 has no counterpart in PixArt and keeps its initial value."""
    return _PIXART_NEW.fullmatch(name) is not None


def from_diffusers_vae(weights: Mapping[str, Tensor]) -> LazyWeights:
    """Return a spatial or video VAE's weights with diffusers' present names and shapes.

    Files from before 2023 (SDXL's among them) call the layers of attention ``query``, ``key``,
    ``value`` and ``proj_attn``, and some keep them as 1x1 convolutions.
    """
    return LazyWeights(dict(_renamed_attention(unwrapped(weights).readers)))


def temporal_part(weights: Mapping[str, Tensor]) -> LazyWeights:
    """Return the temporal VAE's weights of a whole video VAE's, or its own as they are."""
    return _part(weights, _TEMPORAL_PREFIX)


def spatial_part(weights: Mapping[str, Tensor]) -> LazyWeights:
    """Return the spatial VAE's weights of a whole video VAE's, or its own as they are."""
    return from_diffusers_vae(_part(weights, _SPATIAL_PREFIX))


def _part(weights: Mapping[str, Tensor], prefix: str) -> LazyWeights:
    """Return what has a prefix, without it; all where nothing has."""
    readers = unwrapped(weights).readers
    part = {
        name.removeprefix(prefix): read for name, read in readers.items() if name.startswith(prefix)
    }
    return LazyWeights(part or readers)


def with_normalization(config: VideoVAEConfig, state: Mapping[str, Tensor]) -> VideoVAEConfig:
    """Return a video VAE's config with the ``shift`` and ``scale`` of its weights.

    Where these are the config's, rounded to float32, it stays as it is.

    Args:
        config: of the model.
        state: its tensors; ``shift`` and ``scale`` may be missing, or be one number for all
            channels.

    Raises:
        ConfigError: they are not one number per channel.
    """
    channels = config.temporal.latent_channels
    for name in ("shift", "scale"):
        if name not in state:
            continue
        values = state[name].float().flatten()
        if values.numel() not in (1, channels):
            raise ConfigError(f"{name} has {values.numel()} values for {channels} channels")
        values = values.expand(channels)
        if not torch.equal(values.cpu(), torch.tensor(getattr(config, name))):
            config = config.model_copy(update={name: tuple(values.tolist())})
    return config


def _readers(weights: Mapping[str, Tensor]) -> dict[str, Reader]:
    if isinstance(weights, LazyWeights):
        return weights.readers
    return {name: partial(weights.__getitem__, name) for name in weights}


def _renamed_attention(readers: Mapping[str, Reader]) -> dict[str, Reader]:
    renamed: dict[str, Reader] = {}
    for name, read in readers.items():
        match = _OLD_ATTENTION.fullmatch(name)
        if match is not None:
            prefix, layer, kind = match.groups()
            name = f"{prefix}{_ATTENTION_NAMES.get(layer, layer)}.{kind}"
        if re.search(r"\.attentions\.\d+\.to_(q|k|v|out\.0)\.weight$", name):
            read = partial(_as_matrix, read)
        renamed[name] = read
    return renamed


def _with_time(read: Reader) -> Tensor:
    weight = read()
    return weight.unsqueeze(2) if weight.ndim == 4 else weight  # noqa: PLR2004 - a 2D convolution


def _of_length(read: Reader, length: int) -> Tensor:
    rows = read()
    if len(rows) >= length:
        return rows[:length]
    return rows[[*range(len(rows)), *[-1] * (length - len(rows))]]


def _as_matrix(read: Reader) -> Tensor:
    weight = read()
    return weight.flatten(1) if weight.shape[2:] == (1, 1) else weight
