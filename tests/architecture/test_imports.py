"""Layers, and a control plane that starts without the machine-learning stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "platform" / "kinetoscope"

HEAVY = ("av", "colossalai", "cv2", "diffusers", "mlflow", "pyarrow", "torch", "transformers")
CONTROL_PLANE = (
    "cli",
    "pipelines",
    "doctor",
    "runs",
    "kube",
    "tracking",
    "steps",
    "storage",
    "telemetry",
    "config",
    "core",
)
_REPORT_MODULES = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def _environment() -> dict[str, str]:
    roots = os.pathsep.join(str(ROOT / root) for root in ("platform", "components"))
    return os.environ | {"PYTHONPATH": roots}


def _loaded_by(*modules: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _REPORT_MODULES, *modules],
        env=_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(done.stdout))


def _control_plane_modules() -> list[str]:
    paths = [path for area in CONTROL_PLANE for path in (PACKAGE / area).rglob("*.py")]
    paths += PACKAGE.rglob("config.py")
    dotted = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in paths
    }
    return sorted(dotted)


def test_layers_and_walls_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_no_control_plane_module_loads_the_machine_learning_stack() -> None:
    modules = _control_plane_modules()
    assert "kinetoscope.cli.app" in modules
    assert "kinetoscope.training.loop.config" in modules
    assert _loaded_by(*modules) & set(HEAVY) == set()


def test_the_command_line_loads_little_more_than_typer() -> None:
    extra = _loaded_by("kinetoscope.cli.app") - _loaded_by("typer", "typer.core", "datetime")
    assert extra - {"__future__"} == {"kinetoscope"}
