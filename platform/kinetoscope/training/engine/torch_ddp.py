"""Torch's own data parallelism: gloo on CPUs, nccl on GPUs, nothing at all for one rank."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinetoscope.core.errors import CorruptError
from kinetoscope.models.device import compute_device
from kinetoscope.training.config import OptimizerConfig
from kinetoscope.training.engine.base import Objective, Tensors
from kinetoscope.training.optimizer import build_optimizer, export_optimizer, import_optimizer

# Longer than any step or checkpoint, shorter than the day that NCCL waits on its own.
_COLLECTIVE_TIMEOUT = timedelta(minutes=30)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TorchDDPEngine:
    """Whole replicas of the model, gradients summed over ranks.

    Args:
        rank: this process.
        world_size: all processes.
        local_rank: this process on its machine, which is its GPU.
        dtype: precision of the forward pass, ``fp32`` or ``bf16`` (autocast).
    """

    def __init__(self, *, rank: int, world_size: int, local_rank: int, dtype: str) -> None:
        self.rank = rank
        self.world_size = world_size
        self.device = compute_device(local_rank)
        self._dtype = _DTYPES[dtype]
        if world_size > 1:
            dist.init_process_group(
                "nccl" if self.device.type == "cuda" else "gloo",
                rank=rank,
                world_size=world_size,
                timeout=_COLLECTIVE_TIMEOUT,
            )

    def prepare(self, objective: Objective, optimizer: OptimizerConfig) -> None:
        """Take over the objective and make its optimizer."""
        self._objective = objective.to(self.device)
        self._trained = {
            name: p for name, p in objective.model.named_parameters() if p.requires_grad
        }
        self._optimizer = build_optimizer(self._trained.values(), optimizer)
        self._ddp = self._wrap() if self.world_size > 1 else None

    def forward_backward(self, tensors: Tensors, *, scale: float, last: bool) -> dict[str, Tensor]:
        """Run one micro-batch and add its gradient."""
        module: nn.Module = self._ddp or self._objective
        on_device = {k: v.to(self.device, non_blocking=True) for k, v in tensors.items()}
        sums_now = last or self._ddp is None
        with nullcontext() if sums_now or self._ddp is None else self._ddp.no_sync():
            with torch.autocast(
                self.device.type, self._dtype, enabled=self._dtype is not torch.float32
            ):
                values: dict[str, Tensor] = module(on_device)
            # DDP averages over ranks; the step's loss is a sum that ``scale`` has normalised.
            (values["loss"].float().sum() * (scale * self.world_size)).backward()
        return {name: value.detach() for name, value in values.items()}

    def clip_gradients(self, max_norm: float | None) -> float:
        """Return the gradient's norm; scale the gradient down when it exceeds ``max_norm``."""
        grads = [p.grad for p in self._trained.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads) if grads else torch.zeros(())
        if max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._trained.values(), max_norm, norm)
        return float(norm)

    def step(self, lr: float) -> None:
        """Update the weights and drop the gradient."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Return the sum of a small CPU tensor over all ranks, on each of them."""
        if self.world_size == 1:
            return values
        total = values.to(self.device)
        dist.all_reduce(total)
        return total.cpu()

    def export_state(self) -> dict[str, dict[str, Tensor]]:
        """Return the groups ``weights`` and ``optimizer``."""
        return {
            "weights": dict(self._objective.model.state_dict()),
            "optimizer": export_optimizer(self._optimizer, self._trained),
        }

    def import_state(self, groups: Mapping[str, Tensors]) -> None:
        """Load what ``export_state`` returned."""
        load_weights(self._objective.model, groups["weights"])
        import_optimizer(self._optimizer, self._trained, groups["optimizer"])

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the process group."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _wrap(self) -> DistributedDataParallel:
        # With find_unused_parameters DDP keeps its buckets after the first step; without, it
        # rebuilds them, and a resumed run sums in another order than an undisturbed one.
        with warnings.catch_warnings():
            # Later versions of torch rename broadcast_buffers; 2.5 knows no other name.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                self._objective,
                device_ids=[self.device.index] if self.device.type == "cuda" else None,
                broadcast_buffers=False,
                find_unused_parameters=True,
            )


def load_weights(model: nn.Module, weights: Tensors) -> None:
    """Copy tensors into a model by name; raises ``CorruptError`` unless names and shapes agree."""
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [
        f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if weights[name].shape != own[name].shape
    ]
    if missing or unknown or shapes:
        raise CorruptError(
            f"the weights do not fit {type(model).__name__}: missing {missing[:5]}, "
            f"unknown {unknown[:5]}, wrong shape {sorted(shapes)[:5]}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
