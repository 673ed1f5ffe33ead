"""Clips from references and in several loops, with a tiny real bundle."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from kinetoscope.core.errors import ConfigError, DataError, NotFoundError
from kinetoscope.core.keys import random_key
from kinetoscope.data.conditioning import condition_text
from kinetoscope.data.video.clip_reader import to_frames
from kinetoscope.data.video.display import Frames
from kinetoscope.data.video.files import read_video, write_video
from kinetoscope.diffusion.flow_model import Conditions
from kinetoscope.diffusion.rectified_flow import ClipSizes, keyed_noise
from kinetoscope.diffusion.sampler import sample, sampling_schedule
from kinetoscope.inference.bundle import Bundle
from kinetoscope.inference.config import ClipRequest
from kinetoscope.inference.pipeline import TextToVideo
from kinetoscope.inference.references import encode_frames, read_reference
from kinetoscope.inference.requests import request_from_prompt


@pytest.fixture(scope="module")
def models(bundle: Bundle) -> TextToVideo:
    # A new transformer's frames do not see each other: its temporal projections are zero.
    noise = torch.Generator().manual_seed(0)
    dit = {
        name: tensor
        if "rope" in name
        else tensor + 0.1 * torch.randn(tensor.shape, generator=noise)
        for name, tensor in bundle.dit.items()
    }
    return TextToVideo(Bundle(bundle.spec, bundle.vae, dit))


@pytest.fixture
def image(tmp_path: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    assert cv2.imwrite(str(path), pixels)
    return str(path)


@pytest.fixture
def video(tmp_path: Path) -> str:
    frames = np.random.default_rng(1).integers(0, 256, (17, 32, 32, 3), dtype=np.uint8)
    path = tmp_path / "video.mp4"
    write_video(path, frames, 8.0)
    return str(path)


def _reconstructed(models: TextToVideo, frames: Frames) -> Frames:
    with torch.no_grad():
        z = encode_frames(models.vae, frames)[None]
        return to_frames(models.vae.decode(z, len(frames))[0])


def test_a_plain_request_samples_its_keyed_noise_without_a_mask(models: TextToVideo) -> None:
    request = ClipRequest(prompt="a cat", seed=7)
    spec = models.spec
    noise = keyed_noise([random_key("sample-noise", 7)], (4, *models.vae.latent_size((5, 32, 32))))
    text, mask = models.text_encoder.encode([condition_text("a cat", spec.scores)])
    sides, fps = torch.tensor([32.0]), torch.tensor([spec.fps])
    schedule = sampling_schedule(spec.sampler, spec.flow, ClipSizes.of((5, 32, 32), noise.shape[2]))
    z = sample(models.dit, noise, Conditions(text, mask, sides, sides, fps), schedule)
    with torch.no_grad():
        wanted = to_frames(models.vae.decode(z, 5)[0])
    assert (models.generate(request) == wanted).all()


def test_referenced_frames_are_the_vae_s_reconstruction(models: TextToVideo, video: str) -> None:
    # Pieces of the VAE are independent: 17 frames of 22 are the first piece.
    request = ClipRequest(prompt="x", num_frames=22, references=(video,), mask_strategy="0,0,0,0,5")
    clip = models.generate(request)
    assert (clip[:17] == _reconstructed(models, read_video(Path(video))[0])).all()
    unconditioned = models.generate(ClipRequest(prompt="x", num_frames=22))
    assert (clip[:17] != unconditioned[:17]).any()
    assert (clip[17:] != unconditioned[17:]).any(), "the model sees the reference"


def _inputs_of_the_model(models: TextToVideo, request: ClipRequest) -> tuple[Frames, list[Tensor]]:
    seen: list[Tensor] = []
    handle = models.dit.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    try:
        return models.generate(request), seen
    finally:
        handle.remove()


def test_an_image_is_the_first_latent_frame_at_every_step(models: TextToVideo, image: str) -> None:
    request = ClipRequest(prompt="x", references=(image,))
    clip, seen = _inputs_of_the_model(models, request)
    latent = encode_frames(models.vae, read_reference(Path(image), (32, 32)))
    assert len(seen) == 2
    assert all(torch.equal(z[:, :1], latent) for z in seen)
    assert not torch.equal(seen[0][:, 1:], seen[1][:, 1:])
    assert (models.generate(request) == clip).all()


def test_an_image_alone_is_reconstructed(models: TextToVideo, image: str) -> None:
    request = ClipRequest(prompt="x", num_frames=1, references=(image,), mask_strategy="0")
    wanted = _reconstructed(models, read_reference(Path(image), (32, 32)))
    assert (models.generate(request) == wanted).all()


def test_an_edit_ratio_lets_the_reference_change(models: TextToVideo, image: str) -> None:
    kept, edited, free = (
        models.generate(
            ClipRequest(prompt="x", references=(image,), mask_strategy=f"0,0,0,0,1,{edit}")
        )
        for edit in (0, 0.6, 1)
    )
    assert (kept != edited).any()
    assert (edited != free).any()


@pytest.mark.parametrize(("num_frames", "overlap"), [(22, 17), (5, 1)])
def test_loops_continue_the_clip(models: TextToVideo, num_frames: int, overlap: int) -> None:
    steps: list[tuple[int, int]] = []
    request = ClipRequest(prompt="x", num_frames=num_frames, loops=3, seed=2)
    clip = models.generate(request, on_step=lambda done, total: steps.append((done, total)))
    assert len(clip) == 3 * (num_frames - overlap) + overlap
    assert (models.generate(request) == clip).all()
    first = request.model_copy(update={"loops": 1})
    assert (models.generate(first) == clip[:num_frames]).all()
    assert steps == [(number, 6) for number in range(1, 7)]
    two = models.generate(request.model_copy(update={"loops": 2}))
    assert (two == clip[: len(two)]).all()
    assert (clip[num_frames : 2 * num_frames - overlap] != clip[2 * num_frames - overlap :]).any()


def test_the_overlap_is_the_clip_before(models: TextToVideo) -> None:
    request = ClipRequest(prompt="x", num_frames=22, loops=2)
    clip, seen = _inputs_of_the_model(models, request)
    tail = encode_frames(models.vae, clip[5:22])
    assert not torch.equal(seen[0][:, 5:], seen[2][:, 5:]), "each loop has its own noise"
    assert torch.equal(seen[-1][:, :5], tail)


def test_each_loop_has_its_own_prompt(models: TextToVideo) -> None:
    plain = models.generate(request_from_prompt("a cat", num_frames=5, loops=2))
    same = models.generate(request_from_prompt("|0|a cat|1|a cat", num_frames=5, loops=2))
    other = models.generate(request_from_prompt("|0|a cat|1|a red dog", num_frames=5, loops=2))
    assert (plain == same).all()
    assert (plain[:5] == other[:5]).all()
    assert (plain[5:] != other[5:]).any()


def test_the_request_s_scores_win_over_the_prompt_s_and_the_bundle_s(models: TextToVideo) -> None:
    def clip(prompt: str, **options: object) -> Frames:
        return models.generate(ClipRequest.model_validate({"prompt": prompt, **options}))

    assert (clip("a cat") == clip("a cat", motion=2.5)).all()
    assert (clip("a cat. motion score: 9.0.") == clip("a cat", motion=9)).all()
    assert (clip("a cat. motion score: 1.0.", motion=9) == clip("a cat", motion=9)).all()
    assert (clip("a cat", motion=9) != clip("a cat")).any()
    assert (
        clip("a cat. camera motion: pan left.") == clip("a cat", camera_motion="pan left")
    ).all()
    assert (clip("a cat", aesthetic=6.5) != clip("a cat")).any()


def test_one_frame_is_told_as_an_image_and_a_video_at_the_bundle_s_rate(
    models: TextToVideo,
) -> None:
    def clip(num_frames: int, fps: float | None = None) -> Frames:
        return models.generate(ClipRequest(prompt="x", num_frames=num_frames, fps=fps))

    assert (clip(1) == clip(1, fps=120)).all()
    assert (clip(1) != clip(1, fps=models.spec.fps)).any()
    assert (clip(5) == clip(5, fps=models.spec.fps)).all()
    assert (clip(5) != clip(5, fps=120)).any()


def test_prompts_are_cleaned_where_the_training_captions_were(bundle: Bundle) -> None:
    spec = bundle.spec.model_copy(update={"clean_captions": True})
    cleaning = TextToVideo(Bundle(spec, bundle.vae, bundle.dit))
    raw = cleaning.generate(ClipRequest(prompt="A <b>cat</b>"))
    assert (raw == cleaning.generate(ClipRequest(prompt="a cat"))).all()
    plain = TextToVideo(bundle)
    assert (plain.generate(ClipRequest(prompt="A <b>cat</b>")) != raw).any()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"condition_frames": 1}, "there is one loop"),
        ({"loops": 2, "condition_frames": 3}, "3 condition frames"),
        ({"loops": 2, "num_frames": 1}, "can't be continued"),
        ({"mask_strategy": "0"}, "there are 0"),
        ({"references": ("{image}", "{image}")}, "no mask strategy"),
        ({"references": ("{image}",), "mask_strategy": "1"}, "is for loop 1"),
        ({"references": ("{image}",), "mask_strategy": "0,0,0,9"}, "frame 9 of a clip of 2"),
        ({"references": ("http://x/y.png",)}, "no local file"),
        ({"later_prompts": {3: "a dog"}, "loops": 2}, "loop 3"),
    ],
)
def test_a_request_that_can_t_be_fulfilled_is_refused(
    models: TextToVideo, image: str, options: dict[str, object], problem: str
) -> None:
    if "references" in options:
        options = {**options, "references": [
            path.format(image=image) for path in options["references"]  # type: ignore[attr-defined]
        ]}  # fmt: skip
    with pytest.raises(ConfigError, match=problem):
        models.generate(ClipRequest.model_validate({"prompt": "x", **options}))


def test_a_reference_that_can_t_be_read_is_refused(models: TextToVideo, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.png"):
        models.generate(ClipRequest(prompt="x", references=(str(tmp_path / "gone.png"),)))
    for name in ("broken.png", "broken.mp4"):
        path = tmp_path / name
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64) if name.endswith("png") else b"no video")
        with pytest.raises(DataError, match=name):
            models.generate(ClipRequest(prompt="x", references=(str(path),)))


def test_the_prompt_s_json_names_references(models: TextToVideo, image: str) -> None:
    suffix = f'{{"reference_path": "{image}", "mask_strategy": "0"}}'
    request = request_from_prompt(f"x {suffix}", seed=1)
    assert (request.prompt, request.references, request.mask_strategy) == ("x", (image,), "0")
    wanted = models.generate(ClipRequest(prompt="x", seed=1, references=(image,)))
    assert (models.generate(request) == wanted).all()
    with pytest.raises(ConfigError, match="camera_motion 'up'"):
        request_from_prompt("x", camera_motion="up")


def test_a_reference_is_scaled_to_cover_the_clip(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = (255, 0, 0)  # blue, as OpenCV orders it
    cv2.imwrite(str(tmp_path / "wide.png"), pixels)
    frames = read_reference(tmp_path / "wide.png", (20, 20))
    assert frames.shape == (1, 20, 20, 3)
    assert (frames == (0, 0, 255)).all()
