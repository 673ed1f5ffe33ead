"""Which engine trains: the one place that knows them all."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.config import Precision
from kinetoscope.steps.rank_environment import RankEnvironment
from kinetoscope.training.engine.base import Engine
from kinetoscope.training.engine.config import EngineName
from kinetoscope.training.engine.rendezvous import Meeting
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine


def build_engine(
    name: EngineName,
    ranks: RankEnvironment,
    *,
    dtype: Precision,
    sequence_parallel: int = 1,
    meeting: Meeting | None = None,
) -> Engine:
    """Return an engine that has met the other ranks.

    Args:
        name: of the engine.
        ranks: which rank this is, of how many.
        dtype: precision of the forward pass.
        sequence_parallel: ranks that share the patches of a sample.
        meeting: how this rank meets the others.

    Raises:
        ConfigError: this environment or this machine lacks what the engine needs.
        KinetoscopeError: ranks know different things; `training.engine.rendezvous`.
        LostPeerError: another rank has gone.
        PreemptedError: told to stop before all ranks were there.
    """
    check_engine(name)
    kind: type[TorchDDPEngine] = TorchDDPEngine
    if name == "colossalai_ddp":
        # Importing ColossalAI takes 12 s, and only its own environment has it.
        from kinetoscope.training.engine.colossalai_ddp import ColossalAIDDPEngine

        kind = ColossalAIDDPEngine
    return kind(ranks, dtype=dtype, sequence_parallel=sequence_parallel, meeting=meeting)


def check_engine(name: EngineName) -> None:
    """Raise ``ConfigError`` when this environment lacks what the engine needs."""
    if name.startswith("colossalai") and find_spec("colossalai") is None:
        raise ConfigError(
            f"engine {name!r} needs ColossalAI, which this environment (torch {torch.__version__}) "
            "does not have",
            hint="the image kinetoscope/trainer-colossalai has it, and so has .venv-colossalai "
            "after `make setup-colossalai`; or set loop.engine to torch_ddp",
        )
