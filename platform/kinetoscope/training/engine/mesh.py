"""How ranks are divided: which share the samples, and which have data of their own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import ProcessGroup


@dataclass(frozen=True, slots=True)
class Mesh:
    """Where this rank stands among sequence groups: neighbouring ranks form one.

    Attributes:
        sequence_group: the ranks that share this rank's samples; None: it has them to itself.
        data_rank: number of the sequence group, which decides what data its ranks read.
        data_size: how many sequence groups there are.
    """

    sequence_group: ProcessGroup | None
    data_rank: int
    data_size: int


def mesh_groups(sequence_size: int, *, timeout: timedelta | None = None) -> Mesh:
    """Divide the ranks of the default process group into sequence groups.

    Every rank has to call it, with the same arguments.

    Args:
        sequence_size: ranks that share a sample; 1 leaves each rank alone.
        timeout: of collectives within a group; torch's default if None.

    Raises:
        ValueError: the size does not divide the number of ranks.
    """
    world_size, rank = dist.get_world_size(), dist.get_rank()
    if sequence_size < 1 or world_size % sequence_size:
        valid = [n for n in range(1, world_size + 1) if not world_size % n]
        raise ValueError(
            f"{world_size} ranks can't form sequence groups of {sequence_size}; these sizes can "
            f"be used: {valid}"
        )
    own = None
    for first in range(0, world_size if sequence_size > 1 else 0, sequence_size):
        members = list(range(first, first + sequence_size))
        group = dist.new_group(members, timeout=timeout)
        if rank in members:
            assert isinstance(group, ProcessGroup)
            own = group
    return Mesh(own, data_rank=rank // sequence_size, data_size=world_size // sequence_size)
