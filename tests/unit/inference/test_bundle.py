"""Bundles: what is written is read back, and what was damaged is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinetoscope.core.config_model import RECORD_DIGEST, signed_json
from kinetoscope.core.errors import ConfigError, CorruptError, NotFoundError, UserError
from kinetoscope.inference.bundle import Bundle, load_bundle, write_bundle
from kinetoscope.inference.config import ClipRequest
from kinetoscope.inference.pipeline import TextToVideo
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore


@pytest.fixture
def stored(bundle: Bundle, tmp_path: Path) -> ObjectStore:
    root = open_store((tmp_path / "objects").as_uri())
    return open_store(join_uri(root.uri, write_bundle(root, "models/toy", bundle, tmp_path)))


def test_a_bundle_is_read_back_and_generates_the_same_clip(
    bundle: Bundle, stored: ObjectStore, tmp_path: Path
) -> None:
    loaded = load_bundle(stored, tmp_path)
    assert loaded.spec.lineage == bundle.spec.lineage
    request = ClipRequest(prompt="a red circle", seed=3)
    frames = TextToVideo(loaded).generate(request)
    assert frames.shape == (5, 32, 32, 3)
    assert (frames == TextToVideo(bundle).generate(request)).all()


def test_equal_bundles_lie_at_the_same_place_and_others_elsewhere(
    bundle: Bundle, tmp_path: Path
) -> None:
    store = open_store((tmp_path / "objects").as_uri())
    first = write_bundle(store, "models/toy", bundle, tmp_path)
    assert write_bundle(store, "models/toy", bundle, tmp_path) == first
    changed = {name: tensor + 1e-3 for name, tensor in bundle.dit.items()}
    assert (
        write_bundle(store, "models/toy", Bundle(bundle.spec, bundle.vae, changed), tmp_path)
        != first
    )


@pytest.mark.parametrize("name", ["vae.safetensors", "dit.safetensors"])
def test_a_flipped_byte_is_refused(stored: ObjectStore, tmp_path: Path, name: str) -> None:
    data = bytearray(stored.get_bytes(name))
    data[-5] ^= 1
    stored.put_bytes(name, bytes(data))
    with pytest.raises(CorruptError, match=f"{name} does not match"):
        load_bundle(stored, tmp_path)


def test_missing_parts_and_newer_formats_are_refused(stored: ObjectStore, tmp_path: Path) -> None:
    spec = json.loads(stored.get_bytes("bundle.json"))
    del spec[RECORD_DIGEST]
    stored.put_bytes("bundle.json", signed_json(spec | {"format_version": 99}))
    with pytest.raises(UserError, match="format 99"):
        load_bundle(stored, tmp_path)
    stored.put_bytes("bundle.json", signed_json(spec))
    stored.delete("dit.safetensors")
    with pytest.raises(CorruptError, match="missing"):
        load_bundle(stored, tmp_path)
    stored.delete("bundle.json")
    with pytest.raises(NotFoundError, match="no model bundle"):
        load_bundle(stored, tmp_path)


def test_a_bundle_of_a_kind_that_is_not_installed_is_not_called_corrupt(
    stored: ObjectStore, tmp_path: Path
) -> None:
    spec = json.loads(stored.get_bytes("bundle.json"))
    spec["dit"]["kind"] = "elsewhere"
    del spec[RECORD_DIGEST]
    stored.put_bytes("bundle.json", signed_json(spec))
    with pytest.raises(ConfigError, match="no kind of model 'elsewhere'") as caught:
        load_bundle(stored, tmp_path)
    assert "install the distribution" in (caught.value.hint or "")


def test_weights_of_another_model_are_refused(bundle: Bundle) -> None:
    deeper = bundle.spec.dit.model_copy(update={"depth": 2})
    spec = bundle.spec.model_copy(update={"dit": deeper})
    with pytest.raises(CorruptError, match="DiT"):
        TextToVideo(Bundle(spec, bundle.vae, bundle.dit))


def test_a_clip_depends_on_its_request_alone(bundle: Bundle) -> None:
    pipeline = TextToVideo(bundle)
    request = ClipRequest(prompt="a red circle", seed=3)
    before = pipeline.generate(request)
    other = pipeline.generate(ClipRequest(prompt="a red circle", seed=4))
    assert (pipeline.generate(request) == before).all()
    assert (other != before).any()
    assert (pipeline.generate(request.model_copy(update={"guidance": 0.0})) != before).any()


def test_sizes_come_from_the_request_and_bad_ones_name_what_is_allowed(bundle: Bundle) -> None:
    pipeline = TextToVideo(bundle)
    steps = []
    frames = pipeline.generate(
        ClipRequest(prompt="x", num_frames=1, height=24, width=40, num_steps=3),
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert frames.shape == (1, 24, 40, 3)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(ConfigError, match="30x32") as error:
        pipeline.generate(ClipRequest(prompt="x", height=30))
    assert "multiples of 4" in str(error.value.hint)
