"""Running a golden set file by file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from kinetoscope.core.errors import ConfigError, KinetoscopeError
from kinetoscope.parity.compare import CaseResult, failed
from kinetoscope.parity.devices import exact_products, usable_device
from kinetoscope.parity.families import FAMILIES, check_of
from kinetoscope.parity.golden import GoldenFile, read_golden, read_index


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a case of a file.

    Attributes:
        file: name of the golden file.
        mode: of its family; ``-`` where the file was not understood.
        result: how the case went.
    """

    file: str
    mode: str
    result: CaseResult


def run_set(directory: Path, only: str = "*", device: str = "cpu") -> Iterator[Row]:
    """Run the files of a golden set, one row per case, as they finish.

    A file that can't be read, has no family, or gives no case at all is a row that failed.

    Args:
        directory: laid out like a golden set, with ``index.json``.
        only: shell pattern of the files to run.
        device: where tensors are and models run, in the families that say so.

    Raises:
        NotFoundError: there is no such set.
        ConfigError: its index can't be read, no file matches ``only``, or the device can't be used.
    """
    place = usable_device(device)
    entries = read_index(directory)
    names = [name for name in entries if fnmatch(name, only)]
    if not names:
        raise ConfigError(
            f"no file of {directory} matches {only!r}", hint=f"files: {', '.join(entries)}"
        )
    for name in names:
        yield from _run_file(directory, name, entries[name], place)


def _run_file(
    directory: Path, name: str, entry: dict[str, Any], device: torch.device
) -> Iterator[Row]:
    try:
        golden = read_golden(directory, name, entry)
    except KinetoscopeError as error:
        yield Row(name, "-", failed("-", error.message))
        return
    family = FAMILIES.get(golden.kind)
    if family is None:
        detail = f"not understood: no family is called {golden.kind!r}"
        yield Row(name, "-", failed("-", detail))
        return
    mode = family.mode
    results = _results(golden.on(device) if family.on_device else golden)
    first = next(results, None)
    if first is None:
        yield Row(name, mode, failed("-", "the file has no cases"))
        return
    yield Row(name, mode, first)
    yield from (Row(name, mode, result) for result in results)


def _results(golden: GoldenFile) -> Iterator[CaseResult]:
    """Yield the results; while a case runs, and only then, new tensors are made on the device."""
    results: Iterator[CaseResult] | None = None
    try:
        while True:
            with golden.device, exact_products():
                results = results or iter(check_of(golden.kind)(golden))
                result = next(results, None)
            if result is None:
                return
            yield result
    except Exception as error:
        yield failed("-", f"{type(error).__name__}: {error}".splitlines()[0])
