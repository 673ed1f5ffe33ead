"""Trace every bucket of a config's training stages: memory of a GPU, and operations.

No GPU is needed, and no weights: tensors are fake. Peaks are those of torch's allocator; --reserve
stands for the rest (CUDA's context, kernels' workspaces, fragments). Exits with 0 when every bucket
fits, with 1 when one does not, with 2 when the config is not valid.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence

from kinetoscope.config.load import load_config
from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.text import printable, printable_lines
from kinetoscope.core.units import GIB
from kinetoscope.tracing.stages import BucketCost, bucket_costs
from kinetoscope.tracing.tracker import KINDS

_COLUMNS = (
    "stages",
    "bucket",
    "batch",
    "ranks",
    "tokens",
    "peak in",
    *KINDS,
    "peak GiB",
    "TFLOP",
    "fits",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config, options.set).config
        costs = bucket_costs(config, options.only)
    except KinetoscopeError as error:
        sys.stderr.write(f"error: {printable_lines(error.message)}\n")
        if error.hint:
            sys.stderr.write(f"hint: {printable(error.hint)}\n")
        return int(error.exit_code)
    most_bytes = round((options.limit_gib - options.reserve_gib) * GIB)
    if options.json:
        json.dump([_as_json(cost, most_bytes) for cost in costs], sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        sys.stdout.writelines(_table(costs, most_bytes))
    return 0 if all(cost.peak.total_bytes <= most_bytes for cost in costs) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kinetoscope.tracing",
        description=__doc__,
        epilog="Example: python -m kinetoscope.tracing open-sora-1.2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG", help="name of a recipe, or a YAML file")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="change a value"
    )
    parser.add_argument("--only", metavar="STAGE", default="", help="e.g. train_dit or train_dit.2")
    parser.add_argument(
        "--limit-gib", metavar="N", type=float, default=78.0, help="memory of a GPU (default 78)"
    )
    parser.add_argument(
        "--reserve-gib", metavar="N", type=float, default=3.0, help="kept free (default 3)"
    )
    parser.add_argument("--json", action="store_true", help="write one JSON list, no table")
    return parser


def _table(costs: Iterable[BucketCost], most_bytes: int) -> list[str]:
    """Return the lines of a table in Markdown, sizes in GiB."""
    rows = [_COLUMNS, *(_cells(cost, most_bytes) for cost in costs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    padded = ((cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [f"| {' | '.join(row)} |\n" for row in padded]


def _cells(cost: BucketCost, most_bytes: int) -> tuple[str, ...]:
    frames, height, width = cost.size
    return (
        " ".join(cost.stages),
        f"{cost.resolution} x {frames} ({height}x{width})",
        str(cost.batch_size),
        str(cost.ranks),
        str(cost.num_tokens or ""),
        cost.phase,
        *(f"{cost.peak.bytes_by_kind[kind] / GIB:.1f}" for kind in KINDS),
        f"{cost.peak.total_bytes / GIB:.1f}",
        f"{cost.flops / 1e12:.0f}",
        "yes" if cost.peak.total_bytes <= most_bytes else "NO",
    )


def _as_json(cost: BucketCost, most_bytes: int) -> dict[str, object]:
    return {
        "stages": cost.stages,
        "resolution": cost.resolution,
        "size": cost.size,
        "batch_size": cost.batch_size,
        "ranks": cost.ranks,
        "num_tokens": cost.num_tokens,
        "phase": cost.phase,
        "bytes": dict(cost.peak.bytes_by_kind),
        "peak_bytes": cost.peak.total_bytes,
        "flops": cost.flops,
        "fits": cost.peak.total_bytes <= most_bytes,
    }


if __name__ == "__main__":
    sys.exit(main())
