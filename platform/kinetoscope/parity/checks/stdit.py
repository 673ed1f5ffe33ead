"""Golden files of the diffusion transformer: outputs, gradients and activations in between."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kinetoscope.models.layers.embeddings import spatial_positions
from kinetoscope.models.stdit.model import STDiT
from kinetoscope.models.weights.open_sora.load import load_open_sora_transformer
from kinetoscope.parity.compare import CaseResult
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.model_cases import Outputs, mean_squares, model_cases, run_model

_MODULES = {
    "t_embed": "t_embedder",
    "fps_embed": "fps_embedder",
    "t_block": "t_block",
    "x_embed": "x_embedder",
}
_BLOCK = re.compile(r"(spatial|temporal)_(\d+)(?:_(attn|cross|mlp))?")
_PARTS = {"attn": "attn", "cross": "cross_attn", "mlp": "mlp"}


def check_stdit3(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare the model's outputs and, where the file has them, activations and gradients."""

    def compute(case: str, wanted: Collection[str]) -> Mapping[str, Tensor]:
        options = golden.case_config(case)
        unknown = sorted(set(options) - {"grad", "mid", "skip_y_embedder"})
        if unknown:
            raise ValueError(f"options of the case that are not understood: {', '.join(unknown)}")
        config = {**golden.config["model"]}
        if options.get("skip_y_embedder"):
            config["skip_y_embedder"] = True
        model = load_open_sora_transformer(golden.weights, config).eval()
        activations = _Activations(model, [name for name in wanted if name.startswith("mid/")])

        def forward(inputs: Mapping[str, Tensor]) -> Outputs:
            out = model(**stdit_inputs(inputs, packed=model.config.skip_text_embedder))
            return {"out": out, **activations.found(inputs)}

        return run_model(model, golden.inputs(case), wanted, forward, _loss)

    yield from model_cases(golden, compute)


def stdit_inputs(inputs: Mapping[str, Tensor], *, packed: bool) -> dict[str, Any]:
    """Return the arguments of `STDiT.forward` for the inputs of a case.

    Args:
        inputs: the reference's, by its names.
        packed: text comes as ``(1, sum of the lengths, D)``, and the mask is the lengths.
    """
    text, mask = inputs["y"], inputs.get("mask")
    arguments: dict[str, Any] = {
        "x_BZthw": inputs["x"],
        "timestep_B": inputs["timestep"],
        "text_BSD": text if packed else text.flatten(1, -2),
        "height_B": inputs["height"],
        "width_B": inputs["width"],
        "fps_B": inputs["fps"],
        "frame_mask_Bt": inputs.get("x_mask"),
    }
    if packed:
        arguments["text_lengths"] = mask
    elif mask is not None:
        arguments["text_mask_BS"] = mask.flatten(1)
    return arguments


def _loss(outputs: Mapping[str, Tensor]) -> Tensor:
    return mean_squares({"out": outputs["out"]})


class _Activations:
    """Records what modules give in their first call, under the reference's names and shapes."""

    def __init__(self, model: STDiT, names: list[str]) -> None:
        self._model = model
        self._names = names
        self._found: dict[str, Tensor] = {}
        for name in names:
            path = _module_path(name.removeprefix("mid/"))
            if path is not None:
                model.get_submodule(path).register_forward_hook(self._recorder(name))

    def found(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the activations, once the model has run."""
        with torch.no_grad():
            if "mid/y_embed" in self._names:
                self._found["mid/y_embed"] = self._model.y_embedder(inputs["y"])
            if "mid/pos_emb" in self._names:
                self._found["mid/pos_emb"] = self._positions(inputs)
        return self._found

    def _recorder(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            tokens = output.flatten(1, 2) if output.ndim == 4 else output  # noqa: PLR2004 - BtLD
            self._found.setdefault(name, tokens.detach())

        return record

    def _positions(self, inputs: Mapping[str, Tensor]) -> Tensor:
        config = self._model.config
        area = inputs["height"][0].float() * inputs["width"][0].float()
        positions = spatial_positions(
            self._model.x_embedder.grid(inputs["x"])[1:],
            config.width,
            scale=area.sqrt() / config.input_sq_size,
            device=area.device,
        )
        return positions[None]


def _module_path(name: str) -> str | None:
    """Return the path of the module that gives an activation; None: it is computed apart."""
    block = _BLOCK.fullmatch(name)
    if block is None:
        return _MODULES.get(name)
    axis, number, part = block.groups()
    path = f"{axis}_blocks.{number}"
    return path if part is None else f"{path}.{_PARTS[part]}"
