"""Try small trainings on all that happens to machines, and tell what was lost: nothing, if "ok".

Each case disturbs a training of real processes, lets it end, and compares weights, average,
optimizer and the loss of every step with an undisturbed one, to the bit. ``faults.NAME.seconds`` is
how long it took until the fault was acted on. Needs ``minio`` on PATH or in ``KINO_TEST_MINIO`` for
the cases of a store that is away, and the right to mount, perhaps in a user namespace, for the full
disk. The last line is JSON; exit code 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import pytest
from tiny.faults.cases import CASES
from tiny.faults.stage import Stage

from kinetoscope.core.errors import KinetoscopeError

_IN_A_NAMESPACE = "KINO_FAULTS_IN_A_NAMESPACE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Try and print; return the exit code."""
    names = _parser().parse_args(arguments).only or list(CASES)
    if os.geteuid() != 0 and _IN_A_NAMESPACE not in os.environ:
        _enter_a_namespace()
    told: dict[str, str | float] = {}
    with TemporaryDirectory(prefix="faults-") as folder:
        os.environ["KINO_WORKSPACE"] = str(Path(folder, "workspace"))
        stage = Stage(Path(folder))
        for name in names:
            told |= _try(name, stage)
    told["faults.cores"] = os.cpu_count() or 0
    print(json.dumps(told))
    return int(any(told[f"faults.{name}"] != "ok" for name in names))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help="these cases")
    return parser


def _enter_a_namespace() -> None:
    """Go on as root of a user namespace, who may mount."""
    os.environ[_IN_A_NAMESPACE] = "1"
    own = [sys.executable, *sys.argv]
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", *own])  # noqa: S606, S607


def _try(name: str, stage: Stage) -> dict[str, str | float]:
    began = time.monotonic()
    try:
        verdict = CASES[name](stage)
    except pytest.skip.Exception as error:  # something that it needs is not here
        told: dict[str, str | float] = {f"faults.{name}": f"not tried: {error}"}
    except (AssertionError, KinetoscopeError) as error:
        told = {f"faults.{name}": f"it did not end: {error}"}
    else:
        told = {f"faults.{name}": str(verdict)}
        if verdict.seconds is not None:
            told[f"faults.{name}.seconds"] = verdict.seconds
    print(f"{name}: {told[f'faults.{name}']} ({time.monotonic() - began:.0f} s)", flush=True)
    return told


if __name__ == "__main__":
    sys.exit(main())
