"""What the VAEs take, told before torch fails somewhere inside them."""

from __future__ import annotations

from torch import Tensor


def check_pixels(pixels: Tensor, axes: str, *, channels: int, stride: int) -> None:
    """Check pixels that are to be encoded.

    Rows and columns beyond a multiple of the stride are allowed: they are cut off, as by the
    reference.

    Args:
        pixels: of clips or frames.
        axes: their names, e.g. ``B C T H W``; the last two are rows and columns.
        channels: that they must have.
        stride: pixels per latent, of which there must be one.

    Raises:
        ValueError: their type, number of axes, channels or size are others.
    """
    if not pixels.is_floating_point():
        raise ValueError(
            f"pixels are {pixels.dtype}, not floating-point numbers in [-1, 1]: give bytes as "
            "x / 127.5 - 1"
        )
    _check_shape(pixels, "pixels", axes, channels)
    if min(pixels.shape[-2:]) < stride:
        raise ValueError(
            f"pixels {axes} are {tuple(pixels.shape)}: {stride} rows and columns at least make a "
            "latent, enlarge the pictures"
        )


def check_latents(latents: Tensor, axes: str, *, channels: int) -> None:
    """Check latents that are to be decoded, or frame latents that are to be encoded.

    Args:
        latents: of clips or frames.
        axes: their names, e.g. ``B Z t h w``.
        channels: that they must have.

    Raises:
        ValueError: their type, number of axes or channels are others, or there are none.
    """
    if not latents.is_floating_point():
        raise ValueError(f"latents are {latents.dtype}, not floating-point numbers")
    _check_shape(latents, "latents", axes, channels)


def _check_shape(x: Tensor, name: str, axes: str, channels: int) -> None:
    shape, names = tuple(x.shape), axes.split()
    if len(shape) != len(names):
        raise ValueError(f"{name} are {shape}, which is not {axes}: {len(names)} axes are needed")
    if shape[1] != channels:
        raise ValueError(f"{name} {axes} are {shape}: {names[1]} must be {channels}")
    if 0 in shape:
        raise ValueError(f"{name} {axes} are {shape}: every axis needs 1 entry at least")
