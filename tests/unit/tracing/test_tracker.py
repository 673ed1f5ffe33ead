"""Bytes that are live, by kind."""

from __future__ import annotations

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from kinetoscope.tracing.tracker import ALIGNMENT_BYTES, Tracker


def test_views_share_their_storage_and_sizes_are_rounded_up() -> None:
    with Tracker() as tracker:
        tracker.begin("activations")
        x = torch.zeros(1000)
        parts = (x[:10], x.view(10, 100), x.unbind()[0])
        assert tracker.live_bytes["activations"] == 8 * ALIGNMENT_BYTES
        del x
        assert tracker.live_bytes["activations"] == 8 * ALIGNMENT_BYTES
        del parts
        assert tracker.live_bytes["activations"] == 0


def test_the_peak_has_what_was_live_at_once() -> None:
    with FakeTensorMode(), Tracker(alignment_bytes=1) as tracker:
        tracker.begin("temporaries")
        x = torch.empty(10**9)
        x = torch.empty(10**6)
        del x
    assert tracker.peak.bytes_by_kind["temporaries"] == 4 * (10**9 + 10**6)
    assert tracker.peak.operator == "empty"
    assert tracker.live_bytes["temporaries"] == 0


def test_storages_that_backward_frees_are_gone() -> None:
    layers = nn.Sequential(*(nn.Linear(32, 32, bias=False) for _ in range(4)))
    with Tracker(alignment_bytes=1) as tracker:
        tracker.mark(layers.parameters(), "weights")
        tracker.begin("activations")
        loss = layers(torch.ones(8, 32)).square().sum()
        kept = tracker.live_bytes["activations"]
        tracker.begin("temporaries")
        loss.backward()
        del loss
        assert tracker.live_bytes["activations"] == 0
        # The gradients of all weights, which nobody marked.
        assert tracker.live_bytes["temporaries"] == 4 * 32 * 32 * 4
    # Each layer's input, what is squared, and the loss with its own gradient's root.
    assert kept == 5 * 8 * 32 * 4 + 4


def test_a_lower_precision_copy_of_a_weight_is_a_cast() -> None:
    layer = nn.Linear(64, 64)
    with Tracker(alignment_bytes=1) as tracker:
        tracker.mark(layer.parameters(), "weights")
        tracker.begin("activations")
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(torch.ones(2, 64))
            assert tracker.live_bytes["casts"] == 2 * (64 * 64 + 64)
        del y
        assert tracker.live_bytes["casts"] == 0
        assert tracker.live_bytes["weights"] == 4 * (64 * 64 + 64)


def test_what_is_marked_again_counts_once() -> None:
    x = torch.zeros(256)
    tracker = Tracker(alignment_bytes=1)
    tracker.mark([x], "weights")
    tracker.mark([x, x[3:]], "average")
    assert tracker.live_bytes["weights"] == 0
    assert tracker.live_bytes["average"] == 1024
