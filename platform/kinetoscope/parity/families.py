"""Which module checks which family of golden files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from kinetoscope.parity.compare import CaseResult
from kinetoscope.parity.golden import GoldenFile

Check = Callable[[GoldenFile], Iterable[CaseResult]]


@dataclass(frozen=True, slots=True)
class Family:
    """A family of golden files.

    Attributes:
        module: below `checks`; its function ``check_<kind>`` runs a file.
        mode: ``default``, or what the reference's values need: a setting, or the module below
            `reference` that repeats it (docs/parity.md).
        on_device: whether it runs on the device that was asked for; the others draw random numbers
            or have no tensors, and run on the CPU.
    """

    module: str
    mode: str = "default"
    on_device: bool = False


FAMILIES = {
    "stdit3": Family("stdit", "final_layer_compat", on_device=True),
    "vae_temporal": Family("vae", on_device=True),
    "vae_pipeline": Family("vae", "last_piece_posterior", on_device=True),
    "vae_latent_size": Family("vae"),
    "vae_losses": Family("vae_losses", on_device=True),
    "keys": Family("keys"),
    "rflow_timestep_transform": Family("rectified_flow", "reference_times", on_device=True),
    "rflow_add_noise": Family("rectified_flow", on_device=True),
    "rflow_training": Family("rectified_flow", "reference_times", on_device=True),
    "rflow_sample": Family("rectified_flow", "reference_times", on_device=True),
    "rflow_e2e": Family("rectified_flow", "reference_times", on_device=True),
    "mask_generator": Family("frame_masks", "reference.frame_masks"),
    "mask_strategy": Family("mask_strategy", "reference.mask_strategy"),
    "prompts": Family("prompts", "reference.prompts"),
    "text_cleaning": Family("text", "reference.cleaning"),
    "aspect_tables": Family("buckets"),
    "bucket_helpers": Family("buckets", "reference.buckets"),
    "bucket_ids": Family("buckets", "reference.buckets"),
    "lr_warmup": Family("training"),
    "ema": Family("training", "reference.ema"),
}


def check_of(kind: str) -> Check:
    """Return the function that checks files of a kind of `FAMILIES`."""
    module = import_module(f"kinetoscope.parity.checks.{FAMILIES[kind].module}")
    return cast(Check, getattr(module, f"check_{kind}"))
