"""PSNR and SSIM against values computed by hand and by scikit-image's definition in numpy."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from kinetoscope.evaluation.image_metrics import psnr, ssim


def frames(seed: int, num: int = 2, size: int = 24) -> torch.Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error_is_per_frame_and_capped() -> None:
    reference = torch.zeros(2, 3, 8, 8)
    noisy = reference.clone()
    noisy[0] = 0.1
    assert psnr(noisy, reference).tolist() == pytest.approx([20.0, 100.0], rel=1e-6)


def ssim_by_hand(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> float:
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(window, window) / window.sum() ** 2
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (image[top : top + 11, left : left + 11] for image in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a = (weights * (a - mean_a) ** 2).sum()
            var_b = (weights * (b - mean_b) ** 2).sum()
            cov = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 0.01**2, 0.03**2
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * cov + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return float(np.mean(values))


def test_ssim_equals_its_definition() -> None:
    x, y = frames(1, num=1, size=14), frames(2, num=1, size=14)
    by_hand = np.mean([ssim_by_hand(x[0, c].numpy(), y[0, c].numpy()) for c in range(3)])
    assert float(ssim(x, y)[0]) == pytest.approx(by_hand, abs=1e-6)


def test_ssim_is_one_for_equal_frames_and_falls_with_noise() -> None:
    clean = frames(3)
    values = [float(ssim(clean + s * (frames(4) - 0.5), clean).mean()) for s in (0.0, 0.1, 0.5)]
    assert math.isclose(values[0], 1.0, abs_tol=1e-9)
    assert values[0] > values[1] > values[2]


def test_frames_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="two equal shapes"):
        psnr(frames(1, size=16), frames(1, size=24))
