from __future__ import annotations

import pytest
import torch

from kinetoscope.core.errors import ConfigError
from kinetoscope.data.text.mask_strategy import MaskGroup
from kinetoscope.parity.reference.mask_strategy import (
    reference_apply_mask_strategy,
    reference_continue_from,
    reference_snap_start,
)


def test_the_last_frame_is_moved_to_the_last_piece() -> None:
    assert reference_snap_start(14, 5, 15) == 10
    noise, image = torch.zeros(1, 1, 15, 1, 1), torch.ones(1, 1, 1, 1)
    _, mask = reference_apply_mask_strategy(noise, [[image]], ["0,0,0,-1"], align=5)
    assert mask is not None
    assert mask[0].argmin() == 10


def test_a_last_piece_that_is_not_whole_is_never_reached() -> None:
    assert reference_snap_start(4, 5, 9) == 0


def test_a_clip_without_references_is_not_continued() -> None:
    with pytest.raises(ConfigError, match="without references"):
        reference_continue_from(None, None, "previous", group=MaskGroup(loop=2, length=5))
