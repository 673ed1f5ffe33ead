"""Two ranks keep each gradient once, where it is summed; this file is also a rank."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny.rank_processes import results_of_ranks
from torch import Tensor, nn

from kinetoscope.steps.rank_environment import ALONE, RankEnvironment
from kinetoscope.training.engine.base import Objective, Tensors
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine

NUM_STEPS = 4
SAMPLES = 4


class Branches(Objective):
    """A model one branch of which only some samples take, and another none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model: nn.ModuleDict = nn.ModuleDict(
            {
                "trunk": nn.Linear(8, 16),
                "always": nn.Linear(16, 1),
                "some": nn.Linear(16, 1),
                "never": nn.Linear(3, 3),
            }
        )

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        hidden = self.model["trunk"](tensors["x"]).tanh()
        out = self.model["always"](hidden)
        if bool(tensors["branch"].any()):
            out = out + tensors["branch"][:, None] * self.model["some"](hidden)
        return {"loss": out[:, 0].square()}


def micro_batch(step: int, number: int) -> dict[str, Tensor]:
    """Return one of a step's four; just the first of odd steps takes the branch."""
    x = torch.randn(SAMPLES, 8, generator=torch.Generator().manual_seed(10 * step + number))
    return {"x": x, "branch": torch.full((SAMPLES,), float(step % 2 == 1 and number == 0))}


def train(engine: TorchDDPEngine) -> dict[str, Any]:
    """Return the state after some steps; and how many gradients lay in how many storages."""
    objective = Branches()
    engine.prepare(objective, OptimizerConfig(lr=0.01, eps=1e-3))
    storages = []
    for step in range(NUM_STEPS):
        own = range(engine.data_rank, 4, engine.data_size)
        for number in own:
            engine.forward_backward(
                micro_batch(step, number), scale=1 / (4 * SAMPLES), last=number == own[-1]
            )
            grads = [p.grad for p in objective.parameters() if p.grad is not None]
            storages.append((len(grads), len({g.untyped_storage().data_ptr() for g in grads})))
        engine.clip_gradients(0.5)
        engine.step(0.01)
    return {"storages": storages, **engine.export_state()}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes computed."""
    return results_of_ranks(__file__, 2, tmp_path_factory.mktemp("ranks"))


def test_gradients_lie_where_they_are_summed(ranks: list[dict[str, Any]]) -> None:
    # After each of a rank's two micro-batches; just rank 0 saw the one that took the branch.
    assert ranks[0]["storages"] == [(4, 1), (4, 1), (6, 1), (6, 1)] * 2
    assert ranks[1]["storages"] == [(4, 1), (4, 1), (4, 1), (6, 1)] * 2


def test_two_ranks_train_as_one_and_leave_alone_what_no_sample_took(
    ranks: list[dict[str, Any]],
) -> None:
    expected = train(TorchDDPEngine(ALONE, dtype="fp32"))
    assert not any(name.startswith("never") for name in expected["optimizer"])
    assert expected["optimizer"]["some.weight.step"] == NUM_STEPS // 2
    for group in ("weights", "optimizer"):
        for rank in ranks:
            torch.testing.assert_close(rank[group], expected[group], atol=1e-6, rtol=1e-4)
        for name, tensor in ranks[0][group].items():
            assert torch.equal(tensor, ranks[1][group][name]), name


if __name__ == "__main__":
    rank, port, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    engine = TorchDDPEngine(RankEnvironment(2, rank, 1, 0, "127.0.0.1", port), dtype="fp32")
    torch.save(train(engine), folder / f"rank{rank}.pt")
    engine.barrier()
    engine.close()
