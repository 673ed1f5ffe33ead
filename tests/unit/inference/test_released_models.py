"""What a model in the released layout says about the way it was trained."""

from __future__ import annotations

import json
from pathlib import Path

from kinetoscope.inference.bundle import Bundle
from kinetoscope.inference.released_models import export_bundle, import_bundle, read_generation


def test_released_weights_are_rounded_as_they_were_trained_and_ours_as_they_say(
    bundle: Bundle, tmp_path: Path
) -> None:
    export_bundle(bundle, tmp_path)
    generation = read_generation(tmp_path / "generation.json")
    assert import_bundle(tmp_path / "dit", tmp_path / "vae", generation).spec.dit == bundle.spec.dit
    path = tmp_path / "dit" / "config.json"
    config = json.loads(path.read_text())
    del config["kinetoscope"]  # as the reference writes it
    path.write_text(json.dumps(config))
    released = import_bundle(tmp_path / "dit", tmp_path / "vae", generation)
    assert released.spec.dit.to_json()["rounding"] == "bfloat16"
