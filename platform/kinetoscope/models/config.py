"""What the config of every kind of model says: its sizes and its costs.

A kind's own config adds its fields (``models/KIND/config.py``). Nothing here needs torch.
"""

from __future__ import annotations

from typing import ClassVar, Literal, overload

from pydantic import Field, PositiveInt

from kinetoscope.core.config_model import Config

Precision = Literal["bf16", "tf32", "fp32"]
"""In which models compute. fp32 is exact; tf32 lets GPUs round the factors of products and
convolutions to ten bits; bf16 does so too, and layers give on bfloat16 (autocast)."""

PrecisionSetting = Literal["auto", "bf16", "tf32", "fp32"]
"""auto: bf16 on GPUs, fp32 on CPUs."""

Size = tuple[int | None, int | None, int | None]
"""Frames, height and width; None where one is not known."""


class ModelConfig(Config):
    """A model that is built by the name of its kind (`models.kinds`)."""

    revision: ClassVar[int] = 1
    """Raised when the same config and weights give other results; steps are then done anew."""

    kind: str
    """Name of the package that has the model; a kind's config fixes it."""


class VideoAutoencoderConfig(ModelConfig):
    """A model that turns videos into latents and back; both sides own shift and scale."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    """Latents leave as ``(z - shift) / scale``, per channel, and are taken so."""
    chunk_frames: PositiveInt | None = None
    """Frames that are encoded as one piece; longer clips are cut. None: any clip is one piece."""

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        raise NotImplementedError

    @property
    def pixel_multiple(self) -> tuple[int, int]:
        """Pixels per latent along height and width: sizes must be multiples."""
        raise NotImplementedError

    @property
    def frames_per_latent(self) -> int:
        """Frames per latent frame; the first of a piece may have fewer."""
        raise NotImplementedError

    @overload
    def latent_size(self, size: tuple[int, int, int]) -> tuple[int, int, int]: ...

    @overload
    def latent_size(self, size: Size) -> Size: ...

    def latent_size(self, size: Size) -> Size:
        """Return the latent ``(t, h, w)`` of a video of ``(T, H, W)``; what is None stays None.

        Pixels beyond a multiple of `pixel_multiple` have no latents of their own.
        """
        num_frames, height, width = size
        rows, columns = self.pixel_multiple
        return (
            None if num_frames is None else sum(latents for _, latents in self.pieces(num_frames)),
            None if height is None else height // rows,
            None if width is None else width // columns,
        )

    def pieces(self, num_frames: int) -> list[tuple[int, int]]:
        """Return frames and latent frames of each piece of a clip.

        Raises:
            ValueError: there is no frame.
        """
        if num_frames < 1:
            raise ValueError(f"num_frames={num_frames} must be at least 1")
        size = self.chunk_frames or num_frames
        lengths = [min(size, num_frames - start) for start in range(0, num_frames, size)]
        return [(length, -(-length // self.frames_per_latent)) for length in lengths]


class TransformerConfig(ModelConfig):
    """A model that predicts the velocity of rectified flow from noisy latents and text."""

    pretrained_layouts: ClassVar[tuple[str, ...]] = ()
    """Layouts of others' weights that the kind can start from."""
    pretrained_module: ClassVar[str] = ""
    """Module that loads these: ``load_pretrained(model, weights, layout=...)``."""

    patch_size: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 2, 2)
    """Latent frames, rows and columns that become one token."""
    in_channels: PositiveInt = 4
    text_width: PositiveInt = 4096
    """Of the text encoder's embeddings."""
    max_text_tokens: PositiveInt = 300
    text_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of training samples whose caption is replaced by the null text (for guidance)."""

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that it takes."""
        return self.in_channels

    def pixel_multiple(self, autoencoder: VideoAutoencoderConfig) -> tuple[int, int]:
        """Return the pixels of one patch of an autoencoder's latents, along height and width."""
        rows, columns = autoencoder.pixel_multiple
        return rows * self.patch_size[1], columns * self.patch_size[2]

    def tokens(self, latent_size: tuple[int, int, int]) -> tuple[int, int]:
        """Return the frames of tokens, and the tokens of a frame, of latents ``(t, h, w)``."""
        frames, rows, columns = (
            -(-length // patch) for length, patch in zip(latent_size, self.patch_size, strict=True)
        )
        return frames, rows * columns

    def flops(self, latent_size: tuple[int, int, int]) -> float:
        """Return the floating-point operations of one sample's forward pass.

        Args:
            latent_size: ``(t, h, w)``.
        """
        raise NotImplementedError


def multiples(rows: int, columns: int) -> str:
    """Return what height and width must be, in words."""
    if rows == columns:
        return f"multiples of {rows}"
    return f"multiples of {rows} (height) and {columns} (width)"
