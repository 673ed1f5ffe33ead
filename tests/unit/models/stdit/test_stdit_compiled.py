"""Blocks as compiled graphs."""

from __future__ import annotations

import random

import pytest
import torch
from tiny.models import random_transformer, transformer_inputs
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from kinetoscope.models.stdit.model import STDiT

TOKENS = 300


def _lengths(number: int) -> tuple[int, int, int]:
    rng = random.Random(number)  # noqa: S311 - test data
    first, second, third = (rng.choice((0, 1, rng.randint(0, TOKENS))) for _ in range(3))
    return first, second, third


def _gradients(model: STDiT, lengths: tuple[int, int, int]) -> list[Tensor]:
    draws = torch.Generator().manual_seed(sum(lengths))
    inputs = transformer_inputs(3)
    inputs["text_BSD"] = torch.randn(3, TOKENS, 12, generator=draws)
    mask = torch.arange(TOKENS) < torch.tensor(lengths)[:, None]
    model.zero_grad()
    model(**inputs, text_mask_BS=mask).square().mean().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


# Raised by dynamo's own look at the tensors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_one_graph_of_a_block_serves_all_lengths_of_texts() -> None:
    torch.set_num_threads(1)
    eager = random_transformer(depth=1, max_text_tokens=TOKENS)
    compiled = random_transformer(depth=1, max_text_tokens=TOKENS)
    counter = CompileCounterWithBackend("aot_eager")
    for unit in compiled.units():
        unit.compile(fullgraph=True, backend=counter)
    lengths = [(0, 0, 0), (300, 300, 300), (0, 200, 57), (100, 157, 0), *map(_lengths, range(46))]
    rows = set()
    compiled.get_submodule("y_embedder.y_proj").register_forward_hook(
        lambda _layer, given, _out: rows.add(len(given[0]))
    )
    for each in lengths:
        for ours, theirs in zip(_gradients(compiled, each), _gradients(eager, each), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert len(set(lengths)) > 40
    assert rows == {256, 512, 900}
    # fullgraph leaves no break, so each of the two blocks is one graph.
    assert counter.frame_count == 2
