"""Collectives that fail because another rank has gone, told from those that fail by our fault.

Torch has no class for it: gloo raises a bare ``RuntimeError``, NCCL one class for all that goes
wrong. Their words are those of torch 2.5 to 2.15; the ones of NCCL were read, not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from kinetoscope.core.errors import LostPeerError

# Of sockets (gloo's, the store's), then of time-outs, then of groups that could not be formed.
_LOST = (
    "connection closed by peer",
    "connection reset by peer",
    "connection was likely closed",
    "connection refused",
    "connection timed out",
    "broken pipe",
    "no route to host",
    "network is unreachable",
    "host is unreachable",
    "timed out waiting",
    "timeout caused pair closure",
    "socket timeout",
    "wait timeout after",
    "timeout waiting for key",
    "client socket has timed out",
    "gloo connectfullmesh failed",
)
# Of the error in torch's sources.
_PLACE = re.compile(r"^\[[^\]]*\] ")
_LOST_TO_NCCL = (
    *_LOST,
    "ncclremoteerror",
    "remote process exited",
    "remote peer",
    "communicator was aborted",
    "watchdog caught collective operation timeout",
    "timed out in blocking wait",
)


@contextmanager
def telling_lost_peers() -> Iterator[None]:
    """Raise ``LostPeerError`` for what a collective inside raises when another rank has gone."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        words = _PLACE.sub("", str(error)).partition("\n")[0].partition(". This is typically")[0]
        raise LostPeerError(
            f"lost a peer: another rank has ended, or can't be reached ({words})",
            hint="the log of the rank that ended first says why",
        ) from error


def is_lost_peer(error: RuntimeError) -> bool:
    """Tell whether that another rank has gone is what made a collective raise this."""
    text = str(error).lower()
    if isinstance(error, dist.DistBackendError):
        return any(words in text for words in _LOST_TO_NCCL)
    of_torch = isinstance(error, dist.DistError) or "gloo" in text
    return of_torch and any(words in text for words in _LOST)
