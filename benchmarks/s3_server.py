"""A real S3 server for benchmarks: ``minio`` on PATH or in ``KINO_TEST_MINIO``."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore

KEYS = ("benchmark", "benchmark-secret")
BUCKET = "benchmark"


@dataclass(frozen=True)
class Server:
    """A server that runs: its HOST:PORT, and its bucket as we open it."""

    endpoint: str
    store: ObjectStore


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run a server whose data lie in the folder; exits where the program is missing."""
    program = os.environ.get("KINO_TEST_MINIO") or shutil.which("minio")
    if program is None:
        sys.exit("needs the program `minio` on PATH or in KINO_TEST_MINIO")
    (folder / "data" / BUCKET).mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [program, "server", "--quiet", "--address", endpoint, str(folder / "data")],
        env={
            "HOME": str(folder),
            "MINIO_BROWSER": "off",
            "MINIO_ROOT_USER": KEYS[0],
            "MINIO_ROOT_PASSWORD": KEYS[1],
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.environ |= {
        "KINO_S3_ENDPOINT": f"http://{endpoint}",
        "AWS_ACCESS_KEY_ID": KEYS[0],
        "AWS_SECRET_ACCESS_KEY": KEYS[1],
    }
    store = open_store(f"s3://{BUCKET}")
    try:
        store.list()  # tried again until it is there
        yield Server(endpoint, store)
    finally:
        process.kill()
        process.wait()
