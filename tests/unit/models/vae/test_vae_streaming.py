"""Clips of any length: in pieces, as streams, and with memory that does not grow."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.clip_pieces import joined, regroup
from kinetoscope.models.vae.config import SpatialVAEConfig, TemporalVAEConfig, VideoVAEConfig
from kinetoscope.models.vae.model import VideoVAE

CONFIG = VideoVAEConfig(
    spatial=SpatialVAEConfig(block_widths=(8, 16), layers_per_block=1, norm_groups=4),
    temporal=TemporalVAEConfig(base_width=8, num_res_blocks=1, norm_groups=4),
)
WIDE = CONFIG.spatial.model_copy(update={"block_widths": (128, 32)})
LENGTHS = [1, 4, 5, 9, 16, 17, 33, 34, 51]


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    torch.manual_seed(0)
    return VideoVAE(CONFIG)


def clip(num_frames: int, side: int = 8, *, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(num_frames)
    return torch.rand(batch, 3, num_frames, side, side, generator=generator) * 2 - 1


class LivePeak(TorchDispatchMode):
    """Measures the most bytes of CPU tensors that live at once, those of ``known`` aside."""

    live: int
    peak: int

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live, self.peak = 0, 0
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type == "cpu":
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self._seen or not size:
            return
        self._seen.add(place)
        self.live += size
        self.peak = max(self.peak, self.live)

        def freed() -> None:
            self._seen.discard(place)
            self.live -= size

        weakref.finalize(storage, freed)


def peak_bytes(vae: VideoVAE, inputs: Tensor, run: Callable[[], int]) -> int:
    """Return the peak of a run beyond model, input and the bytes that it says its output has."""
    with LivePeak([inputs, *vae.parameters(), *vae.buffers()]) as memory:
        output_bytes = run()
    peak: int = memory.peak
    return peak - output_bytes


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_encoding_is_the_concatenation_over_pieces(vae: VideoVAE, num_frames: int) -> None:
    video = clip(num_frames, batch=2)
    with torch.no_grad():
        whole = vae.encode(video)
        pieces = [vae.encode(piece) for piece in torch.split(video, 17, dim=2)]
    assert whole.mean.shape == (2, 4, *vae.latent_size((num_frames, 8, 8)))
    assert whole.mean.isfinite().all()
    torch.testing.assert_close(whole.mean, torch.cat([p.mean for p in pieces], 2))
    torch.testing.assert_close(whole.logvar, torch.cat([p.logvar for p in pieces], 2))


@pytest.mark.parametrize("part", [1, 5, 17, 100])
@pytest.mark.parametrize("num_frames", [1, 17, 35])
def test_streams_give_what_whole_clips_give(vae: VideoVAE, num_frames: int, part: int) -> None:
    video = clip(num_frames)
    noise = torch.randn(1, 4, num_frames, 4, 4)
    with torch.no_grad():
        whole = vae.encode(video, spatial_noise=noise)
        z = whole.mode()
        decoded = vae.decode(z, num_frames)
    frames, draws = video.split(part, dim=2), noise.split(3, dim=2)
    streamed = Posterior.cat(list(vae.encode_stream(frames, spatial_noise=draws)), dim=2)
    pixels = list(vae.decode_stream(z.split(part, dim=2), num_frames))
    torch.testing.assert_close(streamed.mean, whole.mean)
    torch.testing.assert_close(streamed.logvar, whole.logvar)
    torch.testing.assert_close(torch.cat(pixels, 2), decoded)
    assert [p.shape[2] for p in pixels] == [p.shape[2] for p in video.split(17, dim=2)]
    assert decoded.isfinite().all()
    assert not streamed.mean.requires_grad


def test_a_stream_takes_no_more_parts_than_it_needs(vae: VideoVAE) -> None:
    taken = []

    def parts() -> Iterator[Tensor]:
        for index in range(10):
            taken.append(index)
            yield clip(5)

    next(vae.encode_stream(parts()))
    assert taken == [0, 1, 2, 3]


@pytest.mark.parametrize("num_frames", [5, 20])
def test_without_pieces_a_clip_is_encoded_as_one(num_frames: int) -> None:
    torch.manual_seed(0)
    whole = VideoVAE(CONFIG.model_copy(update={"chunk_frames": None, "spatial_micro_batch": None}))
    torch.manual_seed(0)
    cut = VideoVAE(CONFIG.model_copy(update={"chunk_frames": num_frames}))
    video = clip(num_frames)
    with torch.no_grad():
        z = whole.encode(video).mode()
        torch.testing.assert_close(z, cut.encode(video).mode())
        torch.testing.assert_close(whole.decode(z, num_frames), cut.decode(z, num_frames))
        (streamed,) = whole.encode_stream(video.split(3, dim=2))
    torch.testing.assert_close(streamed.mean, z)
    assert whole.latent_size((num_frames, 8, None)) == (-(-num_frames // 4), 4, None)
    assert (whole.chunk_latents, cut.chunk_latents) == (None, -(-num_frames // 4))


def test_wrong_streams_are_refused(vae: VideoVAE) -> None:
    z = torch.zeros(1, 4, 7, 4, 4)
    for given in (4, 7):
        with pytest.raises(ValueError, match=f"18 frames have 6 latent frames, got {given}"):
            list(vae.decode_stream(z[:, :, :given].split(2, dim=2), 18))
    with pytest.raises(ValueError, match="spatial_noise has fewer frames than the video"):
        list(vae.encode_stream([clip(18)], spatial_noise=[torch.zeros(1, 4, 17, 4, 4)]))


def encode_whole(vae: VideoVAE, video: Tensor) -> int:
    with torch.no_grad():
        posterior = vae.encode(video)
    return posterior.mean.nbytes + posterior.logvar.nbytes


def encode_streamed(vae: VideoVAE, video: Tensor) -> int:
    deque(vae.encode_stream(video.split(10, dim=2)), maxlen=0)
    return 0


def decode_whole(vae: VideoVAE, z: Tensor) -> int:
    with torch.no_grad():
        return vae.decode(z, z.shape[2] // 5 * 17).nbytes


def decode_streamed(vae: VideoVAE, z: Tensor) -> int:
    deque(vae.decode_stream(z.split(3, dim=2), z.shape[2] // 5 * 17), maxlen=0)
    return 0


@pytest.mark.parametrize("run", [encode_whole, encode_streamed, decode_whole, decode_streamed])
def test_memory_does_not_grow_with_the_length(run: Callable[[VideoVAE, Tensor], int]) -> None:
    # Beside 128 channels a few frames of pixels in hand count for little; so here.
    vae = VideoVAE(CONFIG.model_copy(update={"spatial": WIDE}))

    def peak(num_frames: int) -> int:
        encodes = run in (encode_whole, encode_streamed)
        given = clip(num_frames, 16) if encodes else torch.zeros(1, 4, num_frames // 17 * 5, 8, 8)
        return peak_bytes(vae, given, lambda: run(vae, given))

    short, long = peak(17), peak(170)
    # At least a frame at the first level of the spatial VAE, 4 at a time.
    assert short > 4 * 128 * 16 * 16 * 4
    assert abs(long - short) <= 0.05 * short, (short, long)


def test_regrouping_keeps_order_and_joins_across_parts() -> None:
    numbers = torch.arange(11.0).reshape(1, 1, 11, 1, 1)
    pieces = list(regroup(numbers.split([4, 1, 6], dim=2), [3, 5, 2, 7]))
    assert [p.flatten().tolist() for p in pieces] == [[0, 1, 2], [3, 4, 5, 6, 7], [8, 9], [10]]


def test_joining_checks_the_length() -> None:
    pieces = [torch.ones(1, 2), torch.zeros(1, 1)]
    with torch.no_grad():
        assert joined(iter(pieces), 3, dim=1).tolist() == [[1, 1, 0]]
        with pytest.raises(ValueError, match="pieces have 3 of 4 entries along dimension 1"):
            joined(iter(pieces), 4, dim=1)


def test_joining_holds_one_piece_at_a_time() -> None:
    made: list[weakref.ref[Tensor]] = []

    def pieces() -> Iterator[Tensor]:
        for _ in range(3):
            assert [piece() for piece in made] == [None] * len(made)
            piece = torch.ones(1, 2)
            made.append(weakref.ref(piece))
            yield piece
            del piece

    with torch.no_grad():
        assert joined(pieces(), 6, dim=1).tolist() == [[1] * 6]
