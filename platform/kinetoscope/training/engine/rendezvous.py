"""Ranks meet: each waits for all others, however late, and hears whether all know the same.

Torch's own rendezvous gives up after a time-out, can't be told to stop, and lets whoever calls
itself rank r be rank r. Here each rank notes itself with rank 0, below the id of its launch: ranks
of another launch, such as a pod that a restart has yet to remove, count for nothing.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import torch.distributed as dist

# Torch exports them without saying so.
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from kinetoscope.core.errors import KinetoscopeError, LostPeerError, PreemptedError
from kinetoscope.steps.rank_environment import LOOPBACK, RankEnvironment

DEFAULT_TIMEOUT = timedelta(minutes=30)
_POLL_SECONDS = 0.2
_TELL_SECONDS = 60.0
# For one request; who is not there is asked again.
_REQUEST = timedelta(seconds=5)
# How long rank 0 stays, when not all know the same, for those who have not heard of it.
_LINGER_SECONDS = 60.0
_LAUNCH, _KNOWN, _VERDICT, _HEARD = "launch", "known", "verdict", "heard"

_log = logging.getLogger("kinetoscope.ranks")


@dataclass(frozen=True, slots=True)
class Meeting:
    """How this rank meets the others.

    Attributes:
        launch: id of the launch of all ranks; empty where there is no other. Of two numbers the
            greater is the later launch.
        known: what this rank knows without the others, by what it is called; all must know the
            same.
        stop: tells whether this rank was told to stop.
        timeout: how long a collective waits for a rank that all have met.
        waiting: called again and again meanwhile; waiting for others is no stall.
    """

    launch: str = ""
    known: Mapping[str, str] = field(default_factory=dict)
    stop: Callable[[], bool] = lambda: False
    timeout: timedelta = DEFAULT_TIMEOUT
    waiting: Callable[[], None] = lambda: None


def meet(ranks: RankEnvironment, meeting: Meeting) -> Store:
    """Wait until all ranks are there; return the store by which they form groups.

    Waiting has no time-out.

    Raises:
        KinetoscopeError: a rank knows something else; all ranks raise it.
        LostPeerError: rank 0 has gone, or belongs to a later launch.
        PreemptedError: told to stop.
    """
    # Requests hang where rank 0's machine is frozen, and so do look-ups of its name.
    met: Future[Store] = Future()
    threading.Thread(target=_keep, args=(met, ranks, meeting), name="meet", daemon=True).start()
    told_at = time.monotonic()
    while not met.done():
        meeting.waiting()
        if meeting.stop():
            raise PreemptedError("told to stop before all ranks were there; nothing was begun")
        if time.monotonic() > told_at + _TELL_SECONDS:
            told_at = time.monotonic()
            where = f"{ranks.master_address}:{ranks.master_port}"
            _log.info("waiting for other ranks; rank 0 is met at %s", where)
        time.sleep(_POLL_SECONDS)
    return met.result()


def _keep(met: Future[Store], ranks: RankEnvironment, meeting: Meeting) -> None:
    try:
        met.set_result(_meet(ranks, meeting))
    except BaseException as error:  # it is raised where the result is asked for
        met.set_exception(error)


def _meet(ranks: RankEnvironment, meeting: Meeting) -> Store:
    store = _host(ranks, meeting) if ranks.rank == 0 else _join(ranks, meeting)
    board = PrefixStore(f"meeting/{meeting.launch}", store)
    known = {"number of ranks": str(ranks.world_size), **meeting.known}
    try:
        if ranks.rank == 0:
            _hear_all(board, known, ranks.world_size)
        else:
            _hear_rank_0(board, known, ranks.rank)
        store.set_timeout(meeting.timeout)
        return PrefixStore(f"groups/{meeting.launch}", store)
    except dist.DistError as error:
        raise LostPeerError(
            f"rank {ranks.rank} lost rank 0 at {ranks.master_address}:{ranks.master_port} before "
            f"all ranks were there: {_first_line(error)}",
            hint="the log of rank 0 says why it ended",
        ) from error


def _host(ranks: RankEnvironment, meeting: Meeting) -> TCPStore:
    try:
        # It listens on every address; the machine's own name may not resolve yet.
        store = _open(LOOPBACK, ranks.master_port, is_master=True)
    except dist.DistNetworkError as error:
        raise KinetoscopeError(
            f"rank 0 can't be met at port {ranks.master_port}: {_first_line(error)}",
            hint="another process may listen there: end it, or start again for another port",
        ) from error
    store.set(_LAUNCH, meeting.launch)
    return store


def _join(ranks: RankEnvironment, meeting: Meeting) -> TCPStore:
    """Connect to rank 0 of this launch, whenever it comes."""
    address = (ranks.master_address, ranks.master_port)
    while True:
        # Torch writes lines to stderr for each vain attempt of its own.
        with suppress(OSError, dist.DistError):
            socket.create_connection(address, timeout=_REQUEST.total_seconds()).close()
            store = _open(*address)
            launch = store.get(_LAUNCH).decode()
            if launch == meeting.launch:
                return store
            if not _is_earlier(launch, meeting.launch):
                raise LostPeerError(
                    f"rank {ranks.rank} belongs to launch {meeting.launch!r}, and rank 0 at "
                    f"{ranks.master_address} to launch {launch!r}",
                    hint="nothing: the ranks of the later launch train without this one",
                )
        time.sleep(_POLL_SECONDS)


def _open(host: str, port: int, *, is_master: bool = False) -> TCPStore:
    return TCPStore(host, port, is_master=is_master, timeout=_REQUEST, wait_for_workers=False)


def _is_earlier(launch: str, own: str) -> bool:
    return launch.isdecimal() and own.isdecimal() and int(launch) < int(own)


def _hear_all(store: Store, known: Mapping[str, str], world_size: int) -> None:
    """As rank 0, wait for the words of all ranks, and tell all whether they agree."""
    words = {0: known}
    difference = ""
    while len(words) < world_size and not difference:
        for rank in range(1, world_size):
            if rank not in words and store.check([f"{_KNOWN}/{rank}"]):
                words[rank] = json.loads(store.get(f"{_KNOWN}/{rank}"))
                difference = difference or first_difference(rank, words[rank], known)
        time.sleep(_POLL_SECONDS)
    store.set(_VERDICT, json.dumps({"agreed": known, "difference": difference}))
    if difference:
        _wait_until_heard(store, world_size)
        raise _disagreement(difference)


def _hear_rank_0(store: Store, known: Mapping[str, str], rank: int) -> None:
    """As any other rank, tell what it knows, and wait for the word of rank 0."""
    store.set(f"{_KNOWN}/{rank}", json.dumps(known))
    while not store.check([_VERDICT]):
        time.sleep(_POLL_SECONDS)
    verdict = json.loads(store.get(_VERDICT))
    store.add(_HEARD, 1)
    # Rank 0 asks as many ranks as it knows of: one beyond these sees for itself.
    difference = verdict["difference"] or first_difference(rank, known, verdict["agreed"])
    if difference:
        raise _disagreement(difference)


def first_difference(rank: int, has: Mapping[str, str], agreed: Mapping[str, str]) -> str:
    """Return how a rank's word differs from rank 0's, in a sentence; empty where it does not."""
    for name in sorted(agreed.keys() | has.keys()):
        if has.get(name) != agreed.get(name):
            return f"rank {rank} has {name} {has.get(name)!r}; agreed was {agreed.get(name)!r}"
    return ""


def _disagreement(difference: str) -> KinetoscopeError:
    return KinetoscopeError(difference, hint="start all ranks anew, of one version and one config")


def _wait_until_heard(store: Store, world_size: int) -> None:
    """Stay until the others have heard why rank 0 ends, also late ones: its store ends with it."""
    until = time.monotonic() + _LINGER_SECONDS
    while store.add(_HEARD, 0) < world_size - 1 and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
