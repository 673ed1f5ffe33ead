"""Which ranks a process stands for, as Kubeflow Trainer or a launcher of ours tells it."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kinetoscope.core.errors import ConfigError, KinetoscopeError

_POLL_SECONDS = 0.5
_MAX_PORT = 65535
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class RankEnvironment:
    """The ranks of this process and where rank 0 is met.

    Attributes:
        world_size: ranks of the whole job.
        first_rank: of this process's machine (pod).
        local_world_size: ranks of that machine.
        local_rank: which of them this process is; None: it has to start them all.
        master_address: host name or address of rank 0's machine.
        master_port: where rank 0 listens.
    """

    world_size: int
    first_rank: int
    local_world_size: int
    local_rank: int | None
    master_address: str
    master_port: int

    @property
    def local_ranks(self) -> Sequence[int]:
        """Which of its machine's ranks this process is, or has to start."""
        return range(self.local_world_size) if self.local_rank is None else (self.local_rank,)

    @property
    def node(self) -> int:
        """Number of this process among those that are, or start, as many ranks."""
        return (self.first_rank + self.local_ranks[0]) // len(self.local_ranks)

    @property
    def num_nodes(self) -> int:
        """How many such processes there are."""
        return self.world_size // len(self.local_ranks)

    @property
    def own_local_rank(self) -> int:
        """``local_rank`` of a process that is a rank."""
        if self.local_rank is None:
            raise ValueError("this process is no rank: it has to start those of its machine")
        return self.local_rank

    @property
    def rank(self) -> int:
        """Number of this rank in the whole job."""
        return self.first_rank + self.own_local_rank

    def variables(self, local_rank: int) -> dict[str, str]:
        """Return torch's environment variables of one of the machine's ranks."""
        return {
            "RANK": str(self.first_rank + local_rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            "MASTER_ADDR": self.master_address,
            "MASTER_PORT": str(self.master_port),
        }


# What tells of several ranks, and would count for nothing without the first of its kind.
_OF_NO_USE_ALONE = {
    "RANK": {"WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    "PET_NNODES": {"PET_NPROC_PER_NODE", "PET_NODE_RANK"},
}

ALONE = RankEnvironment(1, 0, 1, 0, LOOPBACK, 0)
"""Of a job's only rank."""


def read_rank_environment(variables: Mapping[str, str]) -> RankEnvironment:
    """Read the variables of this process.

    ``RANK``, ``WORLD_SIZE`` and their like name one rank. Otherwise Kubeflow Trainer's
    ``PET_NNODES``, ``PET_NPROC_PER_NODE``, ``PET_NODE_RANK``, ``PET_MASTER_ADDR`` and
    ``PET_MASTER_PORT`` name the ranks of a pod. Without any of them, this is the only rank.

    Raises:
        ConfigError: a variable is missing, also the first of either kind where others of it are
            there; or one is no whole number or is out of range.
    """
    if "RANK" in variables:
        return _one_rank(variables)
    if "PET_NNODES" in variables:
        return _trainer_node(variables)
    for first, others in _OF_NO_USE_ALONE.items():
        for name in sorted(others & variables.keys()):
            raise ConfigError(
                f"{name}={variables[name]!r} is set, and {first} is not: nothing says which ranks "
                "this process has",
                hint=f"set {first}, too, or unset {name}",
            )
    return ALONE


def supervised_ranks(variables: Mapping[str, str], num_ranks: int) -> RankEnvironment:
    """Return the ranks that the supervisor with these variables has to start.

    Args:
        variables: of this process; see `read_rank_environment`.
        num_ranks: of a job that no variable tells of, which is on this machine alone.
    """
    told = read_rank_environment(variables)
    return one_node(num_ranks) if told is ALONE else told


def one_node(num_ranks: int) -> RankEnvironment:
    """Return the environment of a job that has all its ranks on this machine, yet to be started."""
    return RankEnvironment(
        world_size=num_ranks,
        first_rank=0,
        local_world_size=num_ranks,
        local_rank=None,
        master_address=LOOPBACK,
        master_port=free_port(),
    )


def wait_for_host(host: str, *, timeout_seconds: float) -> None:
    """Wait until a host name resolves: a pod's name does only once the pod has an address.

    Raises:
        KinetoscopeError: it did not in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            if time.monotonic() >= deadline:
                raise KinetoscopeError(
                    f"the name of rank 0's machine, {host!r}, did not resolve within "
                    f"{timeout_seconds:g} s: {error}",
                    hint="see whether that pod runs, the job's headless Service exists and a "
                    "NetworkPolicy lets pods ask the cluster's DNS",
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _one_rank(variables: Mapping[str, str]) -> RankEnvironment:
    world_size = _number(variables, "WORLD_SIZE", least=1)
    rank = _number(variables, "RANK", most=world_size - 1)
    told = "LOCAL_WORLD_SIZE" in variables
    here = _number(variables, "LOCAL_WORLD_SIZE", least=1, most=world_size) if told else 1
    local_rank = _number(variables, "LOCAL_RANK", most=min(rank, here - 1) if told else rank)
    return RankEnvironment(
        world_size=world_size,
        first_rank=rank - local_rank,
        local_world_size=here,
        local_rank=local_rank,
        master_address=_text(variables, "MASTER_ADDR") if world_size > 1 else LOOPBACK,
        master_port=_port(variables, "MASTER_PORT") if world_size > 1 else 0,
    )


def _trainer_node(variables: Mapping[str, str]) -> RankEnvironment:
    nodes = _number(variables, "PET_NNODES", least=1)
    per_node = _number(variables, "PET_NPROC_PER_NODE", least=1)
    node = _number(variables, "PET_NODE_RANK", most=nodes - 1)
    alone = nodes * per_node == 1
    return RankEnvironment(
        world_size=nodes * per_node,
        first_rank=node * per_node,
        local_world_size=per_node,
        local_rank=0 if per_node == 1 else None,
        master_address=LOOPBACK if alone else _text(variables, "PET_MASTER_ADDR"),
        master_port=0 if alone else _port(variables, "PET_MASTER_PORT"),
    )


def free_port() -> int:
    """Return a port of this machine that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _port(variables: Mapping[str, str], name: str) -> int:
    return _number(variables, name, least=1, most=_MAX_PORT)


def _number(
    variables: Mapping[str, str], name: str, *, least: int = 0, most: int | None = None
) -> int:
    text = _text(variables, name)
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        allowed = f"from {least} to {most}" if most is not None else f"of {least} or more"
        hint = "set spec.trainer.numProcPerNode of the TrainJob" if text == "auto" else None
        raise ConfigError(f"{name}={text!r} must be a whole number {allowed}", hint=hint)
    return int(text)


def _text(variables: Mapping[str, str], name: str) -> str:
    if not variables.get(name):
        raise ConfigError(
            f"the environment variable {name} is missing; given are {sorted(variables)}",
            hint="start the process from a TrainJob, or give it RANK, WORLD_SIZE, LOCAL_RANK, "
            "MASTER_ADDR and MASTER_PORT",
        )
    return variables[name]
