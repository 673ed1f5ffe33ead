"""Planting numerical faults one at a time, and asking the golden sets alone to find them.

``python -m tiny.fault_hunt MODULE --sample 12 FILE...`` writes one JSON line per fault. Each runs
in a forked process that imports the project anew, with the faulty module in place of the real one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import einops  # noqa: F401 - imported before the fork, once for all faults
import pydantic  # noqa: F401
import safetensors.torch  # noqa: F401
import torch
from tiny.numeric_faults import SCALED, Fault, faults

FOUND, SURVIVED, WITHOUT_EFFECT = 1, 0, 2
_PATIENCE_SECONDS = 120


class _Planted(MetaPathFinder, Loader):
    """Gives a module another source."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name, self._code = name, code

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a module of ours if it is the one."""
        return spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the source."""
        exec(self._code, module.__dict__)  # noqa: S102 - it is our own module


def main(arguments: Sequence[str] | None = None) -> None:
    """Hunt the faults of one module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="full name")
    parser.add_argument("files", nargs="+", type=Path, help="golden files, the quickest first")
    parser.add_argument("--sample", type=int, default=0, help="how many faults; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", nargs="*", default=[], help="functions that are left out")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = _path(options.module)
    lines = _lines_that_run(path, options.files)
    every = [
        fault for fault in faults(path, frozenset(options.skip)) if lines.intersection(fault.lines)
    ]
    if options.sample:
        random.Random(options.seed).shuffle(every)  # noqa: S311 - a choice of faults
        every = every[: options.sample]
    for fault in every:
        outcome = _in_child(options.module, path, fault, options.files)
        if outcome == WITHOUT_EFFECT:
            continue
        row = {"found": outcome != SURVIVED, "name": fault.name, "line": fault.lines.start}
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


def _path(module: str) -> Path:
    # Not by importing it or a package above it that would bring it along.
    spec = find_spec(module.partition(".")[0])
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0]).parent
    return root.joinpath(*module.split(".")).with_suffix(".py")


def _in_child(module: str, path: Path, fault: Fault, files: Sequence[Path]) -> int:
    """Return the outcome; a crash, or no end, is a fault that shows."""
    child = os.fork()
    if child == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        signal.alarm(_PATIENCE_SECONDS)
        outcome = FOUND
        try:
            outcome = _outcome(module, path, fault, files)
        finally:
            os._exit(outcome)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _outcome(module: str, path: Path, fault: Fault, files: Sequence[Path]) -> int:
    code = compile(fault.source, str(path), "exec")
    sys.meta_path.insert(0, _Planted(module, code))
    if not _all_right(files):
        return FOUND
    # Results that are no tensors are not scaled.
    scales = fault.kind == "scale" and "scale(" in fault.change
    scaled = getattr(sys.modules[module], SCALED).did
    return WITHOUT_EFFECT if scales and not scaled else SURVIVED


def _all_right(files: Sequence[Path]) -> bool:
    # Not before the fault is planted.
    from kinetoscope.parity.runner import run_set

    return all(row.result.ok for file in files for row in run_set(file.parent, only=file.name))


def _lines_that_run(path: Path, files: Sequence[Path]) -> set[int]:
    """Return the lines of a module that the files run, which must all be right without a fault."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        seen: set[int] = set()

        def on_line(frame: FrameType, event: str, arg: object) -> Any:
            if event == "line":
                seen.add(frame.f_lineno)
            return on_line

        def on_call(frame: FrameType, event: str, arg: object) -> Any:
            return on_line if frame.f_code.co_filename == str(path) else None

        sys.settrace(on_call)
        try:
            right = _all_right(files)
            with os.fdopen(writing, "w") as pipe:
                json.dump(sorted(seen) if right else [], pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = json.load(pipe)
    os.waitpid(child, 0)
    if not lines:
        raise SystemExit(f"{path.name}: the golden files fail without a fault, or don't run it")
    return set(lines)


if __name__ == "__main__":
    main()
