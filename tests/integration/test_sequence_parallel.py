"""Sequence parallelism on 2 and 4 real ranks (gloo) equals one rank; this file is also a rank."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tiny.models import TEXT_TOKENS, TEXT_WIDTH, random_transformer
from tiny.rank_processes import results_of_ranks
from torch import Tensor

from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.weights.open_sora.load import load_open_sora_transformer
from kinetoscope.parity.golden import read_golden
from kinetoscope.steps.rank_environment import ALONE, RankEnvironment
from kinetoscope.training.engine.base import Objective, Tensors
from kinetoscope.training.engine.config import OptimizerConfig
from kinetoscope.training.engine.mesh import mesh_groups
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "reference"


@dataclass(frozen=True)
class Case:
    """A model and its inputs; latents of 8 x 8 are 16 patches a frame, of 5 x 6 they are 9."""

    batch: int = 1
    size: tuple[int, int, int] = (3, 8, 8)
    masks: bool = False
    config: dict[str, Any] = field(default_factory=lambda: {"width": 32, "num_heads": 4})


CASES = {
    "even": Case(),
    "batch of 3 with masks": Case(batch=3, masks=True),
    "tokens that do not divide": Case(batch=3, size=(2, 5, 6), masks=True),
    "heads that do not divide": Case(batch=3, config={"width": 24, "num_heads": 3}, masks=True),
    "neither divides": Case(batch=3, size=(2, 5, 6), config={"width": 24, "num_heads": 3}),
    "fewer tokens and heads than ranks": Case(
        size=(3, 2, 2), config={"width": 16, "num_heads": 1}, masks=True
    ),
    "an image": Case(batch=2, size=(1, 5, 6), masks=True),
    "full checkpointing": Case(
        batch=2,
        size=(2, 5, 6),
        masks=True,
        config={"width": 32, "num_heads": 4, "activation_checkpointing": "full"},
    ),
    "selective checkpointing": Case(
        batch=2,
        size=(2, 5, 6),
        masks=True,
        config={"width": 24, "num_heads": 3, "activation_checkpointing": "selective"},
    ),
    "plain attention, frame positions": Case(
        size=(2, 5, 6),
        config={
            "width": 32,
            "num_heads": 2,
            "qk_norm": False,
            "predict_sigma": False,
            "temporal_position": "rope+sincos",
            "final_layer_compat": False,
        },
        masks=True,
    ),
}


def inputs_of(case: Case, seed: int = 1) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    batch, (frames, height, width) = case.batch, case.size
    inputs = {
        "x_BZthw": torch.randn(batch, 4, frames, height, width, generator=draws),
        "timestep_B": 1000 * torch.rand(batch, generator=draws),
        "text_BSD": torch.randn(batch, TEXT_TOKENS, TEXT_WIDTH, generator=draws),
        "height_B": torch.full((batch,), 8.0 * height),
        "width_B": torch.full((batch,), 8.0 * width),
        "fps_B": torch.full((batch,), 24.0),
    }
    if case.masks:
        lengths = torch.randint(1, TEXT_TOKENS + 1, (batch, 1), generator=draws)
        frames_kept = torch.randint(1, frames + 1, (batch, 1), generator=draws)
        inputs["text_mask_BS"] = torch.arange(TEXT_TOKENS) < lengths
        inputs["frame_mask_Bt"] = torch.arange(frames) < frames_kept
        inputs["drop_text_B"] = torch.arange(batch) == 1
    return inputs


def run_case(case: Case, group: dist.ProcessGroup | None) -> dict[str, Tensor]:
    """Return prediction and gradients: of this rank alone, as they come out of ``backward``."""
    model, inputs = random_transformer(**case.config), inputs_of(case)
    model.parallelise(group)
    x, text = inputs["x_BZthw"].requires_grad_(True), inputs["text_BSD"].requires_grad_(True)
    prediction = model(**inputs)
    prediction.square().mean().backward()
    assert x.grad is not None
    assert text.grad is not None
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == sum(p.requires_grad for p in model.parameters())
    return {"prediction": prediction.detach(), "x": x.grad, "text": text.grad, **gradients}


def run_golden(group: dist.ProcessGroup | None) -> dict[str, Tensor]:
    """Compute the case of the reference with masks of text and frames, by the reference's names."""
    golden = read_golden(GOLDEN, "stdit3_main.safetensors", {})
    model = load_open_sora_transformer(golden.weights, golden.config["model"])
    model.parallelise(group)
    given = golden.inputs("video_xmask")
    x = given["x"].requires_grad_(True)
    out = model(
        x,
        given["timestep"],
        given["y"][:, 0],
        given["mask"],
        height_B=given["height"],
        width_B=given["width"],
        fps_B=given["fps"],
        frame_mask_Bt=given["x_mask"],
    )
    out.square().mean().backward()
    assert x.grad is not None
    gradients = {f"grad/{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"out": out.detach(), "grad_in/x": x.grad, **gradients}


class Denoise(Objective):
    """A loss per sample, and as a part the sample's number."""

    parts = ("number",)

    def __init__(self) -> None:
        super().__init__()
        self.model: STDiT = random_transformer(num_heads=4)

    def parallelise(self, group: dist.ProcessGroup) -> None:
        self.model.parallelise(group)

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        prediction = self.model(**{k: v for k, v in tensors.items() if k != "number"})
        return {"loss": prediction.square().flatten(1).mean(1), "number": tensors["number"]}


def train_two_steps(engine: TorchDDPEngine) -> dict[str, Tensor]:
    """Train on two micro-batches a step; return losses, gradient norms and the weights."""
    objective = Denoise()
    engine.prepare(objective, OptimizerConfig(lr=1e-3, eps=1e-4))
    results: dict[str, Tensor] = {}
    objective.model.spatial_blocks[0].register_forward_pre_hook(
        lambda _block, inputs: results.update(own_tokens=torch.tensor(inputs[0].shape[2]))
    )
    for step in range(2):
        batches = []
        for number, count in enumerate((1, 3)):
            case = Case(batch=count, size=(2, 5, 6), masks=True)
            tensors = inputs_of(case, seed=10 * step + number)
            batches.append({**tensors, "number": torch.full((count,), float(number + 1))})
        own = batches[engine.data_rank :: engine.data_size]
        sums = torch.zeros(2, dtype=torch.float64)
        for index, tensors in enumerate(own):
            last = index == len(own) - 1
            values = engine.forward_backward(tensors, scale=1 / 4, last=last)
            sums += torch.stack([values[name].double().sum() for name in ("loss", "number")])
        results[f"sums {step}"] = engine.sum_over_ranks(sums)
        results[f"norm {step}"] = engine.clip_gradients(1.0)
        engine.step(1e-3)
    return {**results, **engine.export_state()["weights"]}


def run_rank(rank: int, world_size: int, port: int, folder: Path) -> None:
    """Save what this rank computes; the gradients averaged over all ranks."""
    torch.set_num_threads(1)
    ranks = RankEnvironment(world_size, rank, 1, 0, "127.0.0.1", port)
    engine = TorchDDPEngine(ranks, dtype="fp32", sequence_parallel=2)
    results = {"engine": train_two_steps(engine)}
    engine.close()
    dist.init_process_group(
        "gloo", init_method=(folder / "store").as_uri(), rank=rank, world_size=world_size
    )
    group = mesh_groups(world_size).sequence_group
    results |= {name: run_case(case, group) for name, case in CASES.items()}
    results["golden"] = run_golden(group)
    for name in (*CASES, "golden"):
        for key, tensor in results[name].items():
            if key not in ("prediction", "out"):
                dist.all_reduce(tensor)
                tensor /= world_size
    mesh = mesh_groups(2)
    assert mesh.sequence_group is not None
    members = dist.get_process_group_ranks(mesh.sequence_group)
    results["mesh"] = {"mesh": torch.tensor([mesh.data_rank, mesh.data_size, *members])}
    try:
        mesh_groups(3)
    except ValueError as error:
        (folder / f"refused-{rank}").write_text(str(error))
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


Results = list[dict[str, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Results]:
    """What each of so many processes computed: once, whatever order the tests come in."""
    return cache(lambda world_size: _compute(world_size, tmp_path_factory.mktemp("ranks")))


@pytest.fixture(params=[2, 4])
def ranks(request: pytest.FixtureRequest, computed: Callable[[int], Results]) -> Results:
    """What each of 2 or 4 processes computed."""
    return computed(request.param)


def _compute(world_size: int, folder: Path) -> Results:
    results = results_of_ranks(__file__, world_size, folder, str(world_size))
    for rank, result in enumerate(results):
        result["refused"] = (folder / f"refused-{rank}").read_text()
    return results


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        error = (found[name] - tensor).abs().max()
        assert error <= 1e-5 * tensor.abs().max() + 1e-8, (name, float(error))


@pytest.mark.parametrize("name", CASES)
def test_prediction_and_gradients_equal_one_rank(ranks: Results, name: str) -> None:
    expected = run_case(CASES[name], None)
    for results in ranks:
        assert_equal(results[name], expected)


def test_the_reference_is_met_on_every_rank(ranks: Results) -> None:
    expected = read_golden(GOLDEN, "stdit3_main.safetensors", {}).outputs("video_xmask")
    for results in ranks:
        found = results["golden"]
        torch.testing.assert_close(found["out"], expected["out"], atol=2e-5, rtol=1e-4)
        gradients = [name for name in expected if name.startswith(("grad/", "grad_in/"))]
        assert len(gradients) > 10
        for name in gradients:
            torch.testing.assert_close(found[name], expected[name], atol=5e-6, rtol=1e-3)


def test_training_equals_one_rank_whatever_the_mesh(ranks: Results) -> None:
    engine = TorchDDPEngine(ALONE, dtype="fp32")
    expected = train_two_steps(engine)
    assert expected.pop("own_tokens") == 9
    for results in ranks:
        found = results["engine"]
        assert found.pop("own_tokens") == 5
        assert_equal(found, expected)


def test_neighbours_form_sequence_groups(ranks: Results) -> None:
    meshes = [results["mesh"]["mesh"].tolist() for results in ranks]
    groups = len(ranks) // 2
    assert meshes == [[r // 2, groups, r - r % 2, r - r % 2 + 1] for r in range(len(ranks))]


def test_sizes_that_do_not_divide_the_ranks_are_refused(ranks: Results) -> None:
    valid = [1, 2] if len(ranks) == 2 else [1, 2, 4]
    for results in ranks:
        assert str(valid) in str(results["refused"])


if __name__ == "__main__":
    run_rank(int(sys.argv[1]), int(sys.argv[4]), int(sys.argv[2]), Path(sys.argv[3]))
