"""A model bundle: all that generates clips from prompts, in one folder.

    bundle.json        models' configs, sampler, defaults, digests of the weights, lineage
    vae.safetensors    video VAE (fp32)
    dit.safetensors    diffusion transformer, EMA weights (fp32)

A pretrained text encoder is named by its folder, not copied. The bundle's digest is that of
``bundle.json``, which holds the digests of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kinetoscope.core.config_model import Record
from kinetoscope.core.errors import ConfigError, CorruptError, UserError
from kinetoscope.core.hashing import digest_file
from kinetoscope.diffusion.config import RectifiedFlowConfig, SamplerConfig
from kinetoscope.inference.config import ClipSize
from kinetoscope.inference.manifest import MANIFEST, bundle_digest, read_manifest
from kinetoscope.models.choice import AnyTransformer, AnyVideoAutoencoder
from kinetoscope.models.kinds import unusable_kind
from kinetoscope.models.text.config import TextEncoderConfig
from kinetoscope.storage.open import as_local
from kinetoscope.storage.records import shown_name
from kinetoscope.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

FORMAT_VERSION = 1

_VAE = "vae.safetensors"
_DIT = "dit.safetensors"


class BundleSpec(Record):
    """What a bundle holds besides weights."""

    format_version: int = FORMAT_VERSION
    vae: AnyVideoAutoencoder
    """``shift`` and ``scale`` are those of the latents that the transformer was trained on."""
    dit: AnyTransformer
    text_encoder: TextEncoderConfig
    flow: RectifiedFlowConfig
    sampler: SamplerConfig
    size: ClipSize
    """What is generated unless asked otherwise."""
    fps: float
    scores: dict[str, float] = {}
    """Scores that condition every prompt (see ``data/conditioning.py``)."""
    clean_captions: bool = False
    """The training captions were cleaned, so prompts are too (see ``data/text/cleaning.py``)."""
    lineage: dict[str, str] = {}
    """Digests of the data, the checkpoints and the code that it comes from."""
    files: dict[str, str] = {}
    """Digest of each weight file."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        spec: configs, defaults, lineage.
        vae: the video VAE's state by name, ``shift`` and ``scale`` included.
        dit: the transformer's state by name.
    """

    spec: BundleSpec
    vae: Mapping[str, Tensor]
    dit: Mapping[str, Tensor]


def write_bundle(store: ObjectStore, prefix: str, bundle: Bundle, scratch: Path) -> str:
    """Write a bundle below ``prefix/<first 16 hex digits of its digest>``.

    Equal bundles lie at the same place: writing one again changes nothing.

    Args:
        store: where it goes.
        prefix: key prefix.
        bundle: what to write.
        scratch: an existing folder for temporary files.

    Returns:
        The key prefix of the bundle.
    """
    paths = {_VAE: scratch / _VAE, _DIT: scratch / _DIT}
    for name, tensors in ((_VAE, bundle.vae), (_DIT, bundle.dit)):
        save_file({key: _saved(tensor) for key, tensor in tensors.items()}, paths[name])
    files = {name: digest_file(path) for name, path in paths.items()}
    manifest = bundle.spec.model_copy(update={"files": files}).to_bytes()
    key = f"{prefix}/{bundle_digest(manifest).removeprefix('sha256:')[:16]}"
    for name, path in paths.items():
        store.put_file(f"{key}/{name}", path)
        path.unlink()
    store.put_bytes(f"{key}/{MANIFEST}", manifest)
    return key


def read_spec(store: ObjectStore) -> BundleSpec:
    """Read a bundle's ``bundle.json``; errors as in :func:`load_bundle`."""
    try:
        spec = BundleSpec.from_bytes(read_manifest(store), shown_name(store, MANIFEST))
    except CorruptError as error:
        wrong = error.__cause__
        kind = unusable_kind(wrong.errors()) if isinstance(wrong, ValidationError) else None
        if kind is not None:
            raise ConfigError(f"{store.uri}: {kind.message}", hint=kind.hint) from None
        raise
    if spec.format_version > FORMAT_VERSION:
        raise UserError(
            f"the bundle at {store.uri} has format {spec.format_version}; this version reads "
            f"up to {FORMAT_VERSION}",
            hint="update Kinetoscope",
        )
    return spec


def load_bundle(store: ObjectStore, scratch: Path) -> Bundle:
    """Read a bundle and verify its digests.

    Args:
        store: rooted at the bundle.
        scratch: an existing folder for downloads; unused where objects are local files.

    Raises:
        ConfigError: a kind of model that it holds is not installed here.
        NotFoundError: there is no bundle.
        CorruptError: a file is missing or was changed.
        UserError: a newer version of Kinetoscope wrote it.
    """
    spec = read_spec(store)
    return Bundle(spec, _load(store, spec, _VAE, scratch), _load(store, spec, _DIT, scratch))


def _saved(tensor: Tensor) -> Tensor:
    """Return a tensor as it is written; copied only where it is part of something larger."""
    saved = tensor.float().contiguous()
    return saved if saved.untyped_storage().nbytes() == saved.nbytes else saved.clone()


def _load(store: ObjectStore, spec: BundleSpec, name: str, scratch: Path) -> dict[str, Tensor]:
    if name not in spec.files or store.stat(name) is None:
        raise CorruptError(f"{store.uri}/{name} is missing")
    path = as_local(store, name, scratch)
    if digest_file(path) != spec.files[name]:
        raise CorruptError(f"{store.uri}/{name} does not match its digest in {MANIFEST}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CorruptError(f"{store.uri}/{name} is no safetensors file: {error}") from error
