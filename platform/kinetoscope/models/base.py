"""What a video autoencoder and a transformer are, whatever their kind.

Shape letters as in ``models/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import ClassVar, overload

from torch import Tensor, nn
from torch.distributed import ProcessGroup

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.config import Size, TransformerConfig, VideoAutoencoderConfig
from kinetoscope.models.kinds import attribute_of
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.weights.report import LoadReport


class VideoAutoencoder(nn.Module):
    """Turns videos into normalised latents and back.

    Both sides own shift and scale: `encode` gives latents as the transformer sees them, and
    `decode` takes them so. The buffers ``shift`` and ``scale``, ``1 Z 1 1 1``, are part of the
    state, so that statistics that were measured travel with the weights.
    """

    config: VideoAutoencoderConfig
    shift: Tensor
    scale: Tensor

    @overload
    def latent_size(self, size: tuple[int, int, int]) -> tuple[int, int, int]: ...

    @overload
    def latent_size(self, size: Size) -> Size: ...

    def latent_size(self, size: Size) -> Size:
        """Return the latent ``(t, h, w)`` of a video of ``(T, H, W)``; what is None stays None."""
        return self.config.latent_size(size)

    def encode(self, video_BCTHW: Tensor) -> Posterior:
        """Return the posterior ``B Z t h w`` of a video's normalised latents.

        Args:
            video_BCTHW: pixels in [-1, 1], any number of frames.
        """
        raise NotImplementedError

    def decode(self, z_BZthw: Tensor, num_frames: int) -> Tensor:
        """Return pixels ``B C T H W`` (about [-1, 1], not clamped) of normalised latents."""
        raise NotImplementedError

    def encode_stream(self, parts: Iterable[Tensor]) -> Iterator[Posterior]:
        """Encode a video that is never in memory as a whole, without gradients.

        Args:
            parts: consecutive parts ``B C n H W`` of any lengths, taken when they are needed.

        Yields:
            Posteriors of consecutive pieces; together they are what `encode` gives.
        """
        raise NotImplementedError

    def decode_stream(self, parts: Iterable[Tensor], num_frames: int) -> Iterator[Tensor]:
        """Decode latents to a video that is never in memory as a whole, without gradients.

        Args:
            parts: consecutive normalised latents ``B Z n h w`` of any lengths.
            num_frames: of the whole video.

        Yields:
            Pixels of consecutive pieces; together they are what `decode` gives.
        """
        raise NotImplementedError


class Transformer(nn.Module):
    """Predicts the velocity of rectified flow; called as `diffusion.flow_model.FlowModel` says."""

    config: TransformerConfig
    takes_packed_text: ClassVar[bool] = False
    """Whether it takes rows ``P D`` and ``text_places_P2`` (`layers.packed_text`) for padded text
    and its mask."""

    def units(self) -> Iterator[nn.Module]:
        """Yield the parts that are sharded and compiled one by one, in the order of their calls.

        Every forward pass calls each of them once, whatever the shapes: ranks with other batches
        still meet in the same collectives. By default the model is one unit.
        """
        yield self

    def parallelise(self, group: ProcessGroup | None) -> None:
        """Share the tokens of each sample among the ranks of a group; None: keep them all here.

        Raises:
            ConfigError: models of this kind can't.
        """
        if group is not None:
            raise ConfigError(
                f"models of the kind {self.config.kind!r} can't share a sample among ranks",
                hint="set sequence_parallel to 1",
            )


def build_transformer(config: TransformerConfig) -> Transformer:
    """Return a transformer of the config's kind with its initial weights.

    Raises:
        ConfigError: there is no such kind, or its model is no transformer.
    """
    model = attribute_of(config.kind, "model", "MODEL")(config)
    if not isinstance(model, Transformer):
        raise ConfigError(f"the model of the kind {config.kind!r} is no Transformer: {type(model)}")
    return model


def build_autoencoder(config: VideoAutoencoderConfig) -> VideoAutoencoder:
    """Return a video autoencoder of the config's kind with its initial weights.

    Raises:
        ConfigError: there is no such kind, or its model is no video autoencoder.
    """
    model = attribute_of(config.kind, "model", "MODEL")(config)
    if not isinstance(model, VideoAutoencoder):
        raise ConfigError(
            f"the model of the kind {config.kind!r} is no VideoAutoencoder: {type(model)}"
        )
    return model


def load_pretrained(
    model: Transformer, weights: Mapping[str, Tensor], *, layout: str
) -> LoadReport:
    """Set an initialised transformer from weights that others made.

    Args:
        model: changed in place; what the weights have no place for stays as it is.
        weights: tensors by name.
        layout: one of the config's ``pretrained_layouts``; ``auto`` tells them by their names.

    Raises:
        ConfigError: the weights do not fit, or models of this kind start from nobody's weights.
    """
    config = model.config
    if not config.pretrained_module:
        raise ConfigError(f"models of the kind {config.kind!r} start from nobody's weights")
    load = import_module(config.pretrained_module).load_pretrained
    report: LoadReport = load(model, weights, layout=layout)
    return report
