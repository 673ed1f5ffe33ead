"""Check the public API against a golden set.

Prints a table (file, case, max error, tolerance, ok). Exits with 0 when every case of every file is
within its tolerance, with 1 when one is not or a file is not understood, with 2 when DIR is no
golden set or the device can't be used.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.text import printable
from kinetoscope.parity.runner import Row, run_set

_HEADER = ("file", "case", "max error", "tolerance", "ok", "mode")
_WIDTHS = (34, 30, 10, 30, 6)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        rows = list(
            _shown(run_set(options.directory, options.only, options.device), table=not options.json)
        )
    except KinetoscopeError as error:
        sys.stderr.write(f"error: {printable(error.message)}\n")
        if error.hint:
            sys.stderr.write(f"hint: {printable(error.hint)}\n")
        return int(error.exit_code)
    bad = sum(not row.result.ok for row in rows)
    if options.json:
        json.dump([_as_json(row) for row in rows], sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        files = len({row.file for row in rows})
        sys.stdout.write(f"{len(rows) - bad} of {len(rows)} cases of {files} files are ok\n")
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kinetoscope.parity",
        description=__doc__,
        epilog="Example: python -m kinetoscope.parity tests/golden/reference --only 'stdit3*'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="golden set with index.json")
    parser.add_argument(
        "--only", metavar="PATTERN", default="*", help="files to run, e.g. 'rflow*'"
    )
    parser.add_argument(
        "--device", default="cpu", help="where models run, e.g. cuda; without TF32 (default: cpu)"
    )
    parser.add_argument(
        "--json", action="store_true", help="write one JSON list instead of a table"
    )
    return parser


def _shown(rows: Iterator[Row], *, table: bool) -> Iterator[Row]:
    if table:
        sys.stdout.write(_line(_HEADER))
    for row in rows:
        if table:
            result = row.result
            error = f"{result.max_error:.2e}"
            ok = "ok" if result.ok else "FAILED"
            sys.stdout.write(_line((row.file, result.case, error, result.tolerance, ok, row.mode)))
            if not result.ok:
                sys.stdout.write(f"    {printable(result.detail)}\n")
            sys.stdout.flush()
        yield row


def _line(cells: Sequence[str]) -> str:
    shown = [printable(cell) for cell in cells]
    padded = (cell.ljust(width) for cell, width in zip(shown[:-1], _WIDTHS, strict=True))
    return "  ".join((*padded, shown[-1])).rstrip() + "\n"


def _as_json(row: Row) -> dict[str, object]:
    result = row.result
    return {
        "file": row.file,
        "case": result.case,
        "mode": row.mode,
        "max_error": result.max_error if math.isfinite(result.max_error) else None,
        "tolerance": result.tolerance,
        "ok": result.ok,
        "detail": result.detail,
    }


if __name__ == "__main__":
    sys.exit(main())
