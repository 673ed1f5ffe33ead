"""ColossalAI's Booster trains as torch does; this file is also the process that has it trained."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinetoscope.core.errors import ConfigError
from kinetoscope.steps.rank_environment import ALONE
from kinetoscope.training.engine.base import Companion, Engine, Objective, Tensors
from kinetoscope.training.engine.choice import build_engine
from kinetoscope.training.engine.config import EngineName, OptimizerConfig

PLATFORM = str(Path(__file__).resolve().parents[2] / "platform")

pytestmark = pytest.mark.skipif(
    find_spec("colossalai") is None,
    reason="this environment lacks ColossalAI: make setup-colossalai, then "
    ".venv-colossalai/bin/python -m pytest tests/integration/test_colossalai_engine.py",
)


class Regression(Objective):
    """Fit a line; the second layer is frozen, and the third plays against them if asked."""

    def __init__(self, *, adversarial: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
        self.model[1].requires_grad_(False)
        self._judge = nn.Linear(1, 1) if adversarial else None

    def companions(self) -> dict[str, Companion]:
        return {} if self._judge is None else {"judge": Companion(self._judge)}

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        return {"loss": (self.model(tensors["x"])[:, 0] - tensors["y"]).square()}


def batch(seed: int, count: int) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=draws)
    return {"x": x, "y": x.sum(1)}


def train(engine: Engine, steps: range) -> list[float]:
    """Train on two micro-batches of 2 and 6 samples a step; return losses and gradient norms."""
    figures = []
    for step in steps:
        for seed, count in ((2 * step, 2), (2 * step + 1, 6)):
            values = engine.forward_backward(batch(seed, count), scale=1 / 8, last=count == 6)
            figures.append(float(values["loss"].sum()))
        figures.append(float(engine.clip_gradients(1.0)))
        engine.step(0.05)
    return figures


def prepared(name: EngineName, objective: Objective) -> Engine:
    engine = build_engine(name, ALONE, dtype="fp32")
    engine.prepare(objective, OptimizerConfig(lr=0.05))
    return engine


def compare() -> dict[str, Any]:
    """Train alone with both engines, and go on in torch's from the Booster's state."""
    boosted = prepared("colossalai_ddp", Regression())
    plain = prepared("torch_ddp", Regression())
    figures = {"boosted": train(boosted, range(5)), "plain": train(plain, range(5))}
    state = {
        group: {name: tensor.clone() for name, tensor in tensors.items()}
        for group, tensors in boosted.export_state().items()
    }
    names = {group: sorted(tensors) for group, tensors in state.items()}
    resumed = prepared("torch_ddp", Regression())
    resumed.import_state(state)
    figures["resumed"] = train(resumed, range(5, 8))
    back = prepared_again(boosted, state)
    figures["undisturbed"] = train(boosted, range(5, 8))
    boosted.close()
    try:
        prepared("colossalai_ddp", Regression(adversarial=True))
    except ConfigError as error:
        refusal = f"{error.message} {error.hint}"
    return {"figures": figures, "names": names, "refusal": refusal, "restored": back}


def prepared_again(engine: Engine, state: dict[str, dict[str, Tensor]]) -> list[float]:
    """Train on, load the state of before, and return what the same steps then come to."""
    train(engine, range(20, 22))
    engine.import_state(state)
    figures = train(engine, range(5, 8))
    engine.import_state(state)
    return figures


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    """What `compare` found, in a process of its own: ColossalAI warns when it is imported."""
    done = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"PYTHONPATH": PLATFORM, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def smoke(engine: str, *, num_ranks: int) -> list[dict[str, Any]]:
    """Run the smoke job; return the ranks' reports."""
    variables = {
        "PYTHONPATH": PLATFORM,
        "OMP_NUM_THREADS": "1",
        "PET_NNODES": "1",
        "PET_NPROC_PER_NODE": str(num_ranks),
        "PET_NODE_RANK": "0",
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(free_port()),
    }
    command = ["-m", "kinetoscope.training.smoke.job", "--engine", engine, "--timeout", "600"]
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=700,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_one_rank_is_torch_bit_for_bit(compared: dict[str, Any]) -> None:
    figures = compared["figures"]
    assert figures["boosted"] == figures["plain"]
    assert len(set(figures["boosted"])) > 10


def test_its_state_goes_on_in_either_engine(compared: dict[str, Any]) -> None:
    figures = compared["figures"]
    assert figures["resumed"] == figures["undisturbed"] == compared["restored"]
    weights = ["0.bias", "0.weight", "1.bias", "1.weight"]
    moments = [f"{n}.{k}" for n in weights[:2] for k in ("exp_avg", "exp_avg_sq", "step")]
    assert compared["names"] == {"weights": weights, "optimizer": sorted(moments)}


def test_discriminators_are_refused(compared: dict[str, Any]) -> None:
    assert "not beside ['judge']" in compared["refusal"]
    assert "torch_ddp" in compared["refusal"]


def test_two_ranks_equal_one_rank_of_torch() -> None:
    (alone,) = smoke("torch_ddp", num_ranks=1)
    boosted = smoke("colossalai_ddp", num_ranks=2)
    plain = smoke("torch_ddp", num_ranks=2)
    assert [report["engine"] for report in boosted] == ["colossalai_ddp"] * 2
    assert boosted[0]["loss"] == boosted[1]["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert {r["weights_digest"] for r in boosted} == {r["weights_digest"] for r in plain}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compare()) + "\n")
