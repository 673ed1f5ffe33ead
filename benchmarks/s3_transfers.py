"""Move a 512 MiB file and 500 files of 64 KiB to and from an S3 server, beside plain minio-py.

The server is started here, on this machine: ``minio`` on PATH or in ``KINO_TEST_MINIO``. Each way
is measured a few times in turn and the best time counts. Ours writes and checks digests, which
plain minio-py does not. The last line is JSON; exit code 1 when ours takes twice as long anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from minio import Minio
from s3_server import BUCKET, KEYS, serve

from kinetoscope.storage.store import ObjectStore

MAX_SLOWDOWN = 2.0
_MIB = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    with TemporaryDirectory(dir=options.folder, prefix="s3-transfers-") as folder:
        files = Path(folder, "files")
        big, small = _write_files(files, options.big_mib * _MIB, options.num_small)
        with serve(Path(folder)) as server:
            ours = server.store
            plain = Minio(server.endpoint, KEYS[0], KEYS[1], secure=False)
            cases = _cases(ours, plain, {"big": [big], "small": small}, Path(folder))
            seconds = {name: [float("inf")] * 2 for name in cases}
            for repeat in range(options.repeats):
                for name, pair in cases.items():
                    # Who comes first waits for what the other's writes left to the disk.
                    for side in (0, 1) if repeat % 2 else (1, 0):
                        seconds[name][side] = min(seconds[name][side], _time(pair[side]))
    told: dict[str, float] = {"big_mib": options.big_mib, "num_small": options.num_small}
    for name, (our_seconds, plain_seconds) in seconds.items():
        told[f"{name}.seconds"] = round(our_seconds, 3)
        told[f"{name}.plain_seconds"] = round(plain_seconds, 3)
        told[f"{name}.ratio"] = round(our_seconds / plain_seconds, 3)
    told["cores"] = os.cpu_count() or 0
    print(json.dumps(told))
    return int(any(ours > MAX_SLOWDOWN * plain for ours, plain in seconds.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--big-mib", type=int, default=512)
    parser.add_argument("--num-small", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=4, help="the fastest counts")
    parser.add_argument("--folder", type=Path, help="for the files and the server's data")
    return parser


Pair = tuple[Callable[[], None], Callable[[], None]]


def _cases(
    ours: ObjectStore, plain: Minio, groups: dict[str, list[Path]], folder: Path
) -> dict[str, Pair]:
    """Return, by name, what ours and what plain minio-py does; uploads come first."""
    down = folder / "down"
    down.mkdir()

    def put_ours(paths: list[Path]) -> None:
        for path in paths:
            ours.put_file(f"ours/{path.name}", path)

    def put_plain(paths: list[Path]) -> None:
        for path in paths:
            plain.fput_object(BUCKET, f"plain/{path.name}", str(path))

    def get_ours(paths: list[Path]) -> None:
        for path in paths:
            ours.get_file(f"ours/{path.name}", down / path.name)

    def get_plain(paths: list[Path]) -> None:
        for path in paths:
            plain.fget_object(BUCKET, f"plain/{path.name}", str(down / path.name))

    ways = {"upload": (put_ours, put_plain), "download": (get_ours, get_plain)}
    return {
        f"{name}.{way}": (partial(ours_does, paths), partial(plain_does, paths))
        for way, (ours_does, plain_does) in ways.items()
        for name, paths in groups.items()
    }


def _write_files(folder: Path, big_bytes: int, num_small: int) -> tuple[Path, list[Path]]:
    folder.mkdir()
    big = folder / "big"
    with big.open("wb") as file:
        for start in range(0, big_bytes, _MIB):
            file.write(os.urandom(min(_MIB, big_bytes - start)))
    small = [folder / f"small-{number:03d}" for number in range(num_small)]
    for path in small:
        path.write_bytes(os.urandom(64 << 10))
    return big, small


def _time(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
