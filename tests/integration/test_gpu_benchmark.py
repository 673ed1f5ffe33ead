"""`benchmarks/gpu.py`, which measures on a GPU: here its code, with tiny models on the CPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kinetoscope.config.load import load_config
from kinetoscope.models.vae.config import VideoVAEConfig

ROOT = Path(__file__).parents[2]
PARTS = {
    "parity",
    "tests",
    "syncs",
    "stdit_144p",
    "stdit_360p",
    "stdit_720p",
    "stdit_360p_spelled_out",
    "vae_encode",
    "vae_decode",
    "vae_train",
    "generation",
}
# What a GPU machine has: torch with what it needs, numpy and pytest with what it needs.
GIVEN = """
torch torchgen functorch triton sympy mpmath networkx jinja2 markupsafe filelock fsspec numpy
setuptools pytest py pluggy iniconfig packaging pygments kinetoscope gpu_parts eager gpu conftest
"""
# Imported by every process: of what lies on its path, it finds no more than this.
BARE_MACHINE = """
from importlib.machinery import PathFinder
find_any = PathFinder.find_spec
class Bare:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        known = path is not None or top in ALLOWED or top.startswith(("_", "test_"))
        return find_any(name, path, target) if known else None
PathFinder.find_spec = Bare.find_spec
"""


def wheelhouse() -> set[str]:
    """Return the modules in the wheels that `make wheelhouse` gathers."""
    lines = (ROOT / "requirements" / "wheelhouse.lock").read_text().splitlines()
    found = (re.match(r"([a-z-]+)==", line) for line in lines)
    return {match[1].replace("-", "_") for match in found if match}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all parts found, on a machine that has no more than torch and the wheels."""
    site = tmp_path_factory.mktemp("site")
    allowed = {*GIVEN.split(), *wheelhouse(), *sys.stdlib_module_names}
    (site / "sitecustomize.py").write_text(f"ALLOWED = {allowed!r}\n{BARE_MACHINE}")
    out = site / "out"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--tiny"]
    command += ["--seconds", "600", "--out", str(out)]
    env = {**os.environ, "PYTHONPATH": str(site), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(
        command, capture_output=True, text=True, env={"OMP_NUM_THREADS": "1", **env}
    )
    assert ran.stdout, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    failed = {name: part["error"] for name, part in told["parts"].items() if "error" in part}
    assert failed == {}, ran.stderr
    assert ran.returncode == 0, ran.stderr
    files = {path.stem: json.loads(path.read_text()) for path in out.iterdir()}
    assert files == {**told["parts"], "gpu": told}
    return told


def _sides(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in part.values() if isinstance(value, dict)]


def test_every_part_finds_something(found: dict[str, Any]) -> None:
    parts = found["parts"]
    assert (set(parts), found["not_begun"]) == (PARTS, [])
    assert parts["parity"]["fp32"]["cases"] > 0
    assert parts["parity"]["fp32"]["failures"] == []
    assert (parts["tests"]["exit_code"], parts["tests"]["not_passed"]) == (0, [])
    for name in PARTS - {"parity", "tests", "syncs", "generation"}:
        assert all(side["mfu"] > 0 and side["seconds"] > 0 for side in _sides(parts[name])), name
    assert all(phase["seconds"] > 0 for phase in _sides(parts["generation"]))
    assert parts["stdit_360p"]["ours"]["speedup"] > 0
    assert parts["syncs"]["micro_batch_total"] == 0


def test_goals_say_what_was_not_measured(found: dict[str, Any]) -> None:
    goals = {goal["goal"]: goal for goal in found["goals"]}
    assert goals["360p x 51 frames: MFU"]["met"] is False
    assert goals["360p x 51 frames: peak off the traced one"]["met"] is None
    assert goals["tests/gpu: exit code"]["met"] is True


def test_time_that_is_up_leaves_parts_out() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--seconds", "1"]
    ran = subprocess.run(command, capture_output=True, text=True)
    told = json.loads(ran.stdout.splitlines()[-1])
    assert (ran.returncode, told["parts"], set(told["not_begun"])) == (0, {}, PARTS)
    assert {goal["met"] for goal in told["goals"]} == {None}


def test_a_part_that_ends_its_process_is_an_error_and_takes_no_other_along() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--part", "syncs"]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command += ["--part", "vae_encode"]
    ran = subprocess.run(command, capture_output=True, text=True, env=env)
    told = json.loads(ran.stdout.splitlines()[-1])
    assert ran.returncode == 1
    assert [sorted(part) for part in told["parts"].values()] == [["error", "part_seconds"]] * 2


def test_what_is_measured_is_what_the_recipe_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from gpu_parts import sizes

    config = load_config("open-sora-1.2").config
    stage = config.train_dit[-1]
    assert (sizes.FULL.dit, sizes.FULL.vae) == (config.models.dit, config.models.vae)
    assert (config.models.flow, config.models.sampler) == (sizes.FLOW, sizes.FULL.sampler)
    assert (stage.loop.optimizer, stage.loop.grad_clip) == (sizes.OPTIMIZER, sizes.GRAD_CLIP)
    assert (stage.loop.ema_decay, stage.loop.dtype) == (sizes.EMA_DECAY, "bf16")
    assert isinstance(config.models.vae, VideoVAEConfig)
    for name, clips in sizes.FULL.buckets.items():
        (planned,) = (
            bucket
            for bucket in stage.plan.buckets
            if (bucket.resolution_name, bucket.num_frames) == (name, clips.num_frames)
        )
        assert planned.batch_size == clips.batch
