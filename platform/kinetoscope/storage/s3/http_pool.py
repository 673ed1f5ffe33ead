"""HTTP connections for big bodies over slow lines."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import certifi
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

from kinetoscope.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CONNECT_SECONDS = 10.0
"""Limit of making a connection, and of a slice of a body to be taken by the other side."""
READ_SECONDS = 60.0
"""Limit of silence while an answer is awaited."""

_SLICE_BYTES = 1 << 18
_MAX_CONNECTIONS = 32


def http_pool(ca_file: Path | None) -> PoolManager:
    """Return a pool that never retries or redirects: a signed request fits one host only.

    Args:
        ca_file: the only CAs to trust; None for the system's and certifi's.

    Raises:
        ConfigError: the file holds no certificates.
    """
    pool = PoolManager(
        maxsize=_MAX_CONNECTIONS,
        timeout=Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=Retry(total=False, redirect=False),
        ssl_context=_context(ca_file),
    )
    pool.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return pool


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        raise ConfigError(
            f"KINO_S3_CA_FILE={str(ca_file)!r} holds no CA certificates: {error.strerror}",
            hint="name a PEM file of CA certificates",
        ) from None
    if ca_file is None:
        context.load_verify_locations(certifi.where())
    return context


class _SlicedConnection(HTTPConnection):
    """Sends in slices: Python's time limit holds for a whole ``sendall``, not for its progress."""

    def send(self, data: Any) -> None:
        if isinstance(data, bytes) and len(data) > _SLICE_BYTES:
            view = memoryview(data)
            for start in range(0, len(view), _SLICE_BYTES):
                super().send(view[start : start + _SLICE_BYTES])
        else:
            super().send(data)


class _SlicedTLSConnection(_SlicedConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _SlicedConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _SlicedTLSConnection
