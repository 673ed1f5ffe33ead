"""Torch's own data parallelism: gloo on CPUs, nccl on GPUs, nothing at all for one rank."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinetoscope.checkpoints.restore import restore_weights
from kinetoscope.models.config import Precision
from kinetoscope.models.device import begin_computing
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.training.engine.base import Objective, Tensors
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.gradient_views import GradientViews
from kinetoscope.training.engine.lost_peer import telling_lost_peers
from kinetoscope.training.engine.mesh import Mesh, mesh_groups
from kinetoscope.training.engine.optimizer import (
    ParameterGroup,
    build_optimizer,
    export_optimizer,
    import_optimizer,
    set_learning_rate,
)
from kinetoscope.training.engine.rendezvous import Meeting, meet
from kinetoscope.training.engine.transfer import sent


class TorchDDPEngine:
    """Whole replicas of the model, gradients summed over ranks.

    Another library's data parallelism is a subclass that says how it wraps the objective.

    Args:
        ranks: which rank this is, of how many; its number on its machine is its GPU's.
        dtype: precision of the forward pass, bf16 by autocast.
        sequence_parallel: ranks that share the patches of a sample; it divides their number, and
            more than 1 needs an objective that can (`Objective.parallelise`).
        meeting: how this rank meets the others.
    """

    wraps_one_rank: ClassVar[bool] = False
    """Whether a single rank has a process group and a wrapped objective too."""

    def __init__(
        self,
        ranks: RankEnvironment,
        *,
        dtype: Precision,
        sequence_parallel: int = 1,
        meeting: Meeting | None = None,
    ) -> None:
        self.world_size = ranks.world_size
        self._compute = begin_computing(dtype, ranks.own_local_rank)
        self.device = self._compute.device
        self._joined = self.world_size > 1 or self.wraps_one_rank
        mesh = Mesh(None, data_rank=0, data_size=1)
        if self._joined:
            mesh = self._join(ranks, sequence_parallel, meeting or Meeting())
        self.data_rank, self.data_size = mesh.data_rank, mesh.data_size
        self._sequence_group = mesh.sequence_group

    @telling_lost_peers()
    def _join(self, ranks: RankEnvironment, sequence_parallel: int, meeting: Meeting) -> Mesh:
        alone = ranks.world_size == 1
        dist.init_process_group(
            collectives_of(self.device)[0],
            store=dist.HashStore() if alone else meet(ranks, meeting),  # type: ignore[attr-defined]
            rank=ranks.rank,
            world_size=ranks.world_size,
            timeout=meeting.timeout,
        )
        return mesh_groups(sequence_parallel, timeout=meeting.timeout)

    @telling_lost_peers()
    def prepare(self, objective: Objective, optimizer: OptimizerConfig) -> None:
        """Take over the objective and make its optimizer."""
        self._objective = objective.to(self.device)
        if self._sequence_group is not None:
            objective.parallelise(self._sequence_group)
        self._companions = {name: c.module for name, c in objective.companions().items()}
        self._groups = _parameter_groups(objective)
        self._trained = {name: p for g in self._groups for name, p in g.parameters.items()}
        self._optimizer = build_optimizer(self._groups, optimizer)
        self._module = self._wrap() if self._joined else self._objective
        if self._joined:
            self._note_gradient_views()

    @telling_lost_peers()
    def forward_backward(self, tensors: Tensors, *, scale: float, last: bool) -> dict[str, Tensor]:
        """Run one micro-batch and add its gradient."""
        on_device = sent(tensors, self.device)
        with nullcontext() if last else self._unsynchronised():
            with self._compute.autocast():
                values: dict[str, Tensor] = self._module(on_device)
            # DDP averages over ranks, which within a sequence group is the samples' gradient; the
            # step's loss is a sum over the groups, and ``scale`` has normalised it.
            self._backward(values["loss"].float().sum() * (scale * self.data_size))
        return {name: value.detach() for name, value in values.items()}

    def clip_gradients(self, max_norm: float | None) -> Tensor:
        """Return the gradient's norm; scale each group's down when it exceeds ``max_norm``."""
        norms = [_clip(list(g.parameters.values()), max_norm) for g in self._groups]
        # That of a group without any gradient is a zero on the CPU. Doubles hold squares of floats.
        of_all: Tensor = torch.stack([n.to(self.device) for n in norms]).double().norm()
        return of_all

    def step(self, lr: float) -> None:
        """Update the weights and drop the gradient."""
        set_learning_rate(self._optimizer, lr)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average_companions_buffers()

    @telling_lost_peers()
    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over the shares of a step, on every rank's device."""
        total = values.to(self.device, copy=True)
        if self.world_size > 1:
            dist.all_reduce(total)
        return total / (self.world_size // self.data_size)

    @telling_lost_peers()
    def gather_text(self, text: str) -> list[str]:
        """Return what every rank says, by rank, on every rank."""
        if self.world_size == 1:
            return [text]
        # A byte for each that says nothing too: nothing can't be gathered.
        data = torch.frombuffer(bytearray(f"{text}\n".encode()), dtype=torch.uint8).to(self.device)
        lengths = self._gather(torch.tensor([len(data)], device=self.device))
        longest = max(int(length) for length in lengths)
        rows = self._gather(nn.functional.pad(data, (0, longest - len(data))))
        pairs = zip(rows, lengths, strict=True)
        return [bytes(row[: int(length) - 1].tolist()).decode() for row, length in pairs]

    def _gather(self, tensor: Tensor) -> list[Tensor]:
        gathered = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(gathered, tensor)
        return [row.cpu() for row in gathered]

    def export_state(self) -> dict[str, dict[str, Tensor]]:
        """Return the groups ``weights`` and ``optimizer``, and one per companion."""
        return {
            "weights": dict(self._objective.model.state_dict()),
            "optimizer": export_optimizer(self._optimizer, self._trained),
            **{name: dict(module.state_dict()) for name, module in self._companions.items()},
        }

    def import_state(self, groups: Mapping[str, Tensors]) -> None:
        """Load what ``export_state`` returned."""
        restore_weights(self._objective.model, groups["weights"])
        for name, module in self._companions.items():
            restore_weights(module, groups[name])
        import_optimizer(self._optimizer, self._trained, groups["optimizer"])

    @telling_lost_peers()
    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the process group."""
        if self._joined and dist.is_initialized():
            dist.destroy_process_group()

    @telling_lost_peers()
    def _average_companions_buffers(self) -> None:
        # Running statistics of a rank's own batches: checkpoints hold but one rank's.
        if self.world_size == 1:
            return
        for module in self._companions.values():
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= self.world_size

    def _wrap(self) -> nn.Module:
        # With find_unused_parameters DDP keeps its buckets after the first step; without, it
        # rebuilds them, and a resumed run sums in another order than an undisturbed one.
        # Gradients that are views of the buckets are in memory once, not twice.
        with warnings.catch_warnings():
            # Later versions of torch rename broadcast_buffers; 2.5 knows no other name.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                self._objective,
                device_ids=collectives_of(self.device)[1],
                broadcast_buffers=False,
                find_unused_parameters=True,
                gradient_as_bucket_view=True,
            )

    def _note_gradient_views(self) -> None:
        """Sum a gradient of zeros: after it each parameter has its view of a bucket."""
        trained = list(self._trained.values())

        def nothing(tensors: Tensors) -> dict[str, Tensor]:  # noqa: ARG001
            return {"loss": torch.stack([p.sum() * 0 for p in trained]).sum()}

        # What wraps the objective calls it by this name alone.
        self._objective.forward = nothing  # type: ignore[method-assign]
        self._backward(self._module({})["loss"])
        del self._objective.forward
        GradientViews(trained)

    def _unsynchronised(self) -> AbstractContextManager[None]:
        """Return the context in which gradients are gathered but not yet summed over ranks."""
        if isinstance(self._module, DistributedDataParallel):
            return self._module.no_sync()
        return nullcontext()

    def _backward(self, loss: Tensor) -> None:
        loss.backward()


def collectives_of(device: torch.device) -> tuple[str, list[int] | None]:
    """Return the backend that sums over ranks of a device, and the GPUs that DDP is told of."""
    return ("nccl", [device.index]) if device.type == "cuda" else ("gloo", None)


def _parameter_groups(objective: Objective) -> list[ParameterGroup]:
    groups = [ParameterGroup(_trained("", objective.model))]
    for name, companion in objective.companions().items():
        groups.append(ParameterGroup(_trained(f"{name}.", companion.module), companion.lr))
    return groups


def _trained(prefix: str, module: nn.Module) -> dict[str, nn.Parameter]:
    return {f"{prefix}{name}": p for name, p in module.named_parameters() if p.requires_grad}


def _clip(parameters: list[nn.Parameter], max_norm: float | None) -> Tensor:
    # torch 2.5 has no function that just returns the norm.
    limit = math.inf if max_norm is None else max_norm
    return torch.nn.utils.clip_grad_norm_(parameters, limit)
