"""ColossalAI's Booster around whole replicas of the model: gloo on CPUs, nccl on GPUs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import ClassVar

from colossalai.booster import Booster
from colossalai.booster.plugin import TorchDDPPlugin
from torch import Tensor, nn

from kinetoscope.core.errors import ConfigError
from kinetoscope.training.engine.base import Objective
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine


class ColossalAIDDPEngine(TorchDDPEngine):
    """Trains through ``Booster(plugin=TorchDDPPlugin())``; arguments as of the base.

    The Booster's own checkpoints are pickles and stay unused: state is exported and imported by
    parameter name, and a checkpoint of one engine goes on in the other.
    """

    wraps_one_rank: ClassVar[bool] = True

    def prepare(self, objective: Objective, optimizer: OptimizerConfig) -> None:
        """Take over the objective and make its optimizer.

        Raises:
            ConfigError: the objective trains a discriminator. The plugin would replace its batch
                normalisation by one over all ranks, which CPUs lack and torch_ddp does not do.
        """
        if companions := sorted(objective.companions()):
            raise ConfigError(
                f"engine 'colossalai_ddp' trains models alone, not beside {companions}",
                hint="set loop.engine to torch_ddp for stages with a discriminator",
            )
        super().prepare(objective, optimizer)

    def _wrap(self) -> nn.Module:
        # The reasons for these options are those of the base.
        plugin = TorchDDPPlugin(
            broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
        )
        self._booster = Booster(plugin=plugin)
        boosted: nn.Module
        boosted, self._boosted_optimizer, *_ = self._booster.boost(self._objective, self._optimizer)
        return boosted

    def _unsynchronised(self) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = self._booster.no_sync(
            self._module, self._boosted_optimizer
        )
        return context

    def _backward(self, loss: Tensor) -> None:
        self._booster.backward(loss, self._boosted_optimizer)
