from __future__ import annotations

import pytest

from kinetoscope.core.errors import ConfigError
from kinetoscope.parity.reference.loops import frames_of_pieces


def test_latent_frames_that_fill_no_whole_piece_have_no_length() -> None:
    assert frames_of_pieces(10) == 34
    with pytest.raises(ConfigError, match="no whole pieces") as error:
        frames_of_pieces(7)
    assert error.value.hint == "give a multiple of 5"
