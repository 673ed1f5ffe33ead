"""A real S3 server for tests."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin


@dataclass
class MinioServer:
    """A real S3 server on 127.0.0.1 that tests may kill and start again."""

    program: str
    folder: Path
    extra_environment: Mapping[str, str] = field(default_factory=dict)
    access_key: str = "tester"
    secret_key: str = "not-a-secret"  # noqa: S105
    bucket: str = "bucket"

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # A folder of the data is a bucket.
        (self.folder / "data" / self.bucket).mkdir(parents=True)
        self.certs = self.folder / "certs"
        self.certs.mkdir()

    @property
    def endpoint(self) -> str:
        """Its URL."""
        scheme = "https" if (self.certs / "public.crt").exists() else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """Return what a process needs to use it."""
        return {
            "KINO_S3_ENDPOINT": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [self.program, "server", "--quiet", "--certs-dir", str(self.certs)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--address", f"127.0.0.1:{self.port}", str(self.folder / "data")],
                env={
                    "HOME": str(self.folder),
                    "MINIO_BROWSER": "off",
                    "MINIO_ROOT_USER": self.access_key,
                    "MINIO_ROOT_PASSWORD": self.secret_key,
                    **self.extra_environment,
                },
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 60
        while not self._answers():
            running = self._process.poll() is None and time.monotonic() < until
            assert running, (self.folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()
        self._process.wait()

    def add_user(self, name: str, policy: dict[str, Any]) -> None:
        """Make a user, who has the server's secret key, with a policy."""
        admin = MinioAdmin(
            endpoint=self.endpoint.partition("//")[2],
            credentials=StaticProvider(self.access_key, self.secret_key),
            secure=False,
        )
        admin.policy_add(name, policy=policy)
        admin.user_add(name, self.secret_key)
        admin.policy_set(name, user=name)

    def _answers(self) -> bool:
        if self.endpoint.startswith("https"):
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", self.port)) == 0
        try:
            with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready") as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False
