"""Frame arithmetic of clips in several loops."""

from __future__ import annotations

import pytest
from tiny.models import video_vae

from kinetoscope.core.errors import ConfigError
from kinetoscope.inference.loops import Pieces, condition_frames
from kinetoscope.models.vae.model import VideoVAE


@pytest.mark.parametrize("chunk", [17, 8, 6, None])
@pytest.mark.parametrize("num_frames", [1, 4, 5, 16, 17, 18, 33, 34])
def test_boundaries_are_those_of_the_vae(chunk: int | None, num_frames: int) -> None:
    vae = VideoVAE(video_vae(chunk_frames=chunk))
    ends = Pieces(chunk, 4).boundaries(num_frames)
    assert len(ends) == vae.latent_size((num_frames, 8, 8))[0]
    assert ends[-1] == num_frames
    for latents, frames in enumerate(ends, start=1):
        assert vae.latent_size((frames, 8, 8))[0] == latents


@pytest.mark.parametrize(
    ("num_frames", "frames"), [(51, 17), (33, 17), (18, 17), (17, 5), (16, 8), (5, 1)]
)
def test_by_default_a_piece_is_carried_over_or_about_half_a_short_clip(
    num_frames: int, frames: int
) -> None:
    assert condition_frames(num_frames, Pieces()) == frames


def test_what_ends_inside_a_latent_frame_is_refused_with_the_nearest() -> None:
    assert condition_frames(51, Pieces(), 18) == 18
    with pytest.raises(ConfigError, match="20 condition frames") as error:
        condition_frames(51, Pieces(), 20)
    assert error.value.hint == "give 18 or 22"
    with pytest.raises(ConfigError) as error:
        condition_frames(51, Pieces(), 51)
    assert error.value.hint == "give 47"
    with pytest.raises(ConfigError, match="can't be continued"):
        condition_frames(1, Pieces())
