"""The video VAE against the reference: ``vae_temporal``, ``vae_pipeline``, ``vae_latent_size``.

The reference's samples were made deterministic (the posterior's mode), which is our default. Where
it encodes in pieces it keeps the posterior of the last one alone; ours is the whole clip's, of
which the last piece is compared (mode ``last_piece_posterior``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.posterior import Posterior
from kinetoscope.models.vae.model import VideoVAE
from kinetoscope.models.vae.temporal import TemporalVAE
from kinetoscope.models.weights.open_sora.config import video_vae_config_from_open_sora
from kinetoscope.models.weights.open_sora.load import load_open_sora_vae, load_temporal_vae
from kinetoscope.parity.compare import CaseResult, exact_cases
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.model_cases import Outputs, mean_squares, model_cases, run_model

_PIPELINE_KEYS = {"cal_loss", "micro_batch_size", "micro_frame_size", "scale", "shift"}


def check_vae_temporal(golden: GoldenFile) -> Iterator[CaseResult]:
    """Encode ``x`` and decode ``z`` and the posterior's mode with the temporal VAE."""

    def compute(case: str, wanted: Collection[str]) -> Mapping[str, Tensor]:
        vae = load_temporal_vae(golden.weights, golden.config["model"])
        forward = partial(_encode_and_decode, vae, num_frames=_num_frames(golden, case))
        return run_model(vae, golden.inputs(case), wanted, forward, _temporal_loss)

    return model_cases(golden, compute)


def check_vae_pipeline(golden: GoldenFile) -> Iterator[CaseResult]:
    """Encode and decode with the whole VAE, and what its losses compare (``cal_loss``)."""

    def compute(case: str, wanted: Collection[str]) -> Mapping[str, Tensor]:
        changes = {k: v for k, v in golden.case_config(case).items() if k != "num_frames"}
        vae = load_open_sora_vae(golden.weights, _pipeline_config(golden.config, changes))
        asked = {**golden.config.get("pipeline", {}), **changes}
        run = _for_losses if asked.get("cal_loss") else _there_and_back
        forward = partial(run, vae, num_frames=_num_frames(golden, case))
        return run_model(vae, golden.inputs(case), wanted, forward, mean_squares)

    return model_cases(golden, compute)


def check_vae_latent_size(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare latent sizes of the whole VAE and of its parts; null stays null."""
    given, wanted = golden.data["in"], golden.data["out"]
    pairs = []
    for variant, changes in given["variants"].items():
        with torch.device("meta"):
            vae = VideoVAE(
                video_vae_config_from_open_sora(_pipeline_config(given["config"], changes))
            )
        sizes = [tuple(size) for size in given["sizes"]]
        for name, value in wanted[variant].items():
            pairs.append((f"{variant}.{name}", _sizes_of(vae, name, sizes), value))
    return exact_cases(pairs)


def _encode_and_decode(vae: TemporalVAE, inputs: Mapping[str, Tensor], num_frames: int) -> Outputs:
    moments = vae.moments(inputs["x"])
    posterior = Posterior.from_moments(moments)
    ours = {
        "moments": moments,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "std": posterior.std,
        "kl": posterior.kl(),
        "rec_mode": vae.decode(posterior.mode(), num_frames),
    }
    if "z" in inputs:
        ours["dec"] = vae.decode(inputs["z"], num_frames)
    return ours


def _temporal_loss(outputs: Mapping[str, Tensor]) -> Tensor:
    return mean_squares({name: outputs[name] for name in ("moments", "dec")})


def _there_and_back(vae: VideoVAE, inputs: Mapping[str, Tensor], num_frames: int) -> Outputs:
    frame_latents = vae.encode_frames(inputs["x"])
    # The same as the posterior's mode, drawn.
    drawn = vae.encode(inputs["x"], spatial_noise=torch.zeros_like(frame_latents))
    ours = {"x_z": frame_latents, "z": drawn.mode()}
    if "z" in inputs:
        ours["dec"] = vae.decode(inputs["z"], num_frames)
    if "z_spatial" in inputs:
        ours["spatial_dec"] = vae.decode_frames(inputs["z_spatial"])
    return ours


def _for_losses(vae: VideoVAE, inputs: Mapping[str, Tensor], num_frames: int) -> Outputs:
    made = vae(inputs["x"])
    last_frames = num_frames % (vae.config.chunk_frames or num_frames)
    last = vae.temporal_vae.latent_frames(last_frames) if last_frames else vae.chunk_latents or 0
    return {
        "x_rec": made.video_BCTHW,
        "x_z_rec": made.decoded_latents_BZThw,
        "z": made.latents_BZthw,
        "x_z": made.frame_latents_BZThw,
        "post_mean": made.posterior.mean[:, :, -last:],
        "post_logvar": made.posterior.logvar[:, :, -last:],
    }


def _pipeline_config(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(changes) - _PIPELINE_KEYS)
    if unknown:
        raise ConfigError(f"a case changes {', '.join(unknown)}, which is not understood")
    return {**config, "pipeline": {**config.get("pipeline", {}), **changes}}


def _num_frames(golden: GoldenFile, case: str) -> int:
    given = golden.case_config(case).get("num_frames")
    return golden.inputs(case)["x"].shape[2] if given is None else int(given)


def _sizes_of(vae: VideoVAE, name: str, sizes: list[Any]) -> Callable[[], object]:
    if name == "micro_z_frame_size":
        return lambda: vae.chunk_latents
    functions = {
        "pipeline": vae.latent_size,
        "spatial": vae.spatial_vae.latent_size,
        "temporal": vae.temporal_vae.latent_size,
    }
    if name not in functions:
        raise ConfigError(f"latent sizes of {name!r} are not understood")
    return lambda: [functions[name](size) for size in sizes]
