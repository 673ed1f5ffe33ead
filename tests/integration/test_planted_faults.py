"""The golden sets alone find small numerical faults, planted one at a time in every module.

``KINO_TEST_FAULTS`` says how many are drawn for a module (0: all that there are, hours).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny.numeric_faults import faults

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
PACKAGE = ROOT / "platform" / "kinetoscope"

VAE = (
    "gradients/vae_temporal_small_activations",
    "gradients/vae_temporal_gradients",
    "gradients/vae_pipeline_small_activations",
    "gradients/vae_pipeline_gradients",
    "variations/vae_temporal_a",
    "variations/vae_temporal_b",
)
WHOLE_VAE = (*VAE[2:4], "reference/vae_pipeline")
LOSSES = (
    "gradients/vae_losses_gradients",
    "reference/vae_losses",
    "variations/vae_losses_a",
)
TRANSFORMER = (
    "gradients/stdit3_gradients",
    "gradients/stdit3_small_activations",
    "gradients/stdit3_patches",
    "variations/stdit3_a",
    "variations/stdit3_b",
    "reference/stdit3_main",
    "reference/stdit3_variant",
)
FLOW = (
    "gradients/rflow_training_gradients",
    "reference/rflow_add_noise",
    "reference/rflow_timestep_transform",
    "reference/rflow_training",
    "reference/rflow_sample",
    "variations/rflow_training_a",
    "variations/rflow_sample_a",
)
FILES = {
    "models/posterior.py": LOSSES,
    "models/vae/losses.py": LOSSES,
    "models/vae/adversarial": LOSSES,
    "models/vae/model.py": WHOLE_VAE,
    "models/vae/frames.py": WHOLE_VAE,
    "models/vae/clip_pieces.py": WHOLE_VAE,
    "models/vae": VAE,
    "models/conv": VAE,
    "models/layers": TRANSFORMER,
    "models/stdit": TRANSFORMER,
    "diffusion": FLOW,
}
"""Which files are to find the faults of a module or of a folder; the first entry that fits."""

NO_GOLDEN = {
    "config.py": "options, no numbers",
    "frame_masks.py": "draws of our own (test_frame_masks.py)",
    "perceptual.py": "needs VGG's weights (test_perceptual.py)",
    "recomputation.py": "the same values in less memory (test_recomputation.py)",
    "sequence_parallel.py": "several ranks (test_sequence_parallel.py)",
}
SKIPPED = {
    "reset_parameters": "draws initial weights",
    "_reset_embedders": "draws initial weights",
    "inflated": "makes weights for a 3D model of a 2D one's",
    "StyleDiscriminator": "not the reference's",
    "_BlurPool3d": "part of it",
    "_BlurResBlock": "part of it",
    "_capability": "of a GPU",
}
HARMLESS = {
    name
    for names in json.loads((ROOT / "tests/tiny/harmless_faults.json").read_text()).values()
    for name in names
}
"""Faults that change no value, or none that the reference has; the file says why."""


def modules() -> list[str]:
    folders = ("models/conv", "models/vae", "models/layers", "models/stdit", "diffusion")
    found = [PACKAGE / "models" / "posterior.py"]
    for folder in folders:
        found += sorted((PACKAGE / folder).rglob("*.py"))
    return [
        path.relative_to(PACKAGE).as_posix()
        for path in found
        if path.name != "__init__.py" and path.name not in NO_GOLDEN
    ]


@pytest.mark.slow
@pytest.mark.parametrize("module", modules())
def test_planted_faults_are_found(module: str) -> None:
    count = os.environ.get("KINO_TEST_FAULTS", "6")
    files = next(names for place, names in FILES.items() if module.startswith(place))
    rows = hunt(module, files, "--sample", count)
    survivors = {row["name"] for row in rows if not row["found"]}
    assert survivors <= HARMLESS


def test_a_module_has_faults_of_every_kind() -> None:
    kinds = {
        fault.kind for module in modules() for fault in faults(PACKAGE / module, frozenset(SKIPPED))
    }
    assert kinds == {"scale", "sign", "swap", "eps", "drop", "off by one", "axis"}


def hunt(module: str, files: tuple[str, ...], *options: str) -> list[dict[str, object]]:
    name = "kinetoscope." + module.removesuffix(".py").replace("/", ".")
    paths = [str(GOLDEN / f"{file}.safetensors") for file in files]
    command = [sys.executable, "-W", "ignore", "-m", "tiny.fault_hunt", name, *paths, *options]
    done = subprocess.run(
        [*command, "--skip", *SKIPPED],
        env={
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("platform", "tests")),
            "OMP_NUM_THREADS": "1",
            "PATH": os.environ["PATH"],
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
