import math

import numpy as np
import pytest
import torch
from scipy.special import j1

from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.kernels import build_kernels

KERNELS = [
    {"kind": "iso", "side": 7, "sigma_x": 0.2, "sigma_y": 0.2, "angle": 0.0},
    {"kind": "aniso", "side": 21, "sigma_x": 3.0, "sigma_y": 0.4, "angle": 0.7},
    {"kind": "generalized_iso", "side": 9, "sigma_x": 1.3, "sigma_y": 1.3, "angle": 0.0, "beta": 0.5},
    {"kind": "generalized_aniso", "side": 13, "sigma_x": 0.3, "sigma_y": 2.0, "angle": -2.5, "beta": 4.0},
    {"kind": "plateau_iso", "side": 15, "sigma_x": 2.2, "sigma_y": 2.2, "angle": 0.0, "beta": 1.0},
    {"kind": "plateau_aniso", "side": 11, "sigma_x": 1.0, "sigma_y": 2.9, "angle": 3.0, "beta": 1.8},
    {"kind": "sinc", "side": 21, "cutoff": math.pi / 5},
    {"kind": "sinc", "side": 7, "cutoff": math.pi},
]


def scalar_kernel(entry: dict, square: int) -> np.ndarray:
    """The formulas, one element at a time."""
    kernel = np.zeros((square, square))
    radius, centre = entry["side"] // 2, square // 2
    if entry["kind"] != "sinc":
        cos, sin = math.cos(entry["angle"]), math.sin(entry["angle"])
        rotation = np.array([[cos, -sin], [sin, cos]])
        inverse = np.linalg.inv(rotation @ np.diag([entry["sigma_x"] ** 2, entry["sigma_y"] ** 2]) @ rotation.T)
    for y in range(-radius, radius + 1):
        for x in range(-radius, radius + 1):
            if entry["kind"] == "sinc":
                w, r = entry["cutoff"], math.hypot(x, y)
                value = w * j1(w * r) / (2 * math.pi * r) if r else w**2 / (4 * math.pi)
            else:
                q = (np.array([x, y]) @ inverse @ np.array([x, y])) ** entry.get("beta", 1.0)
                value = 1 / (1 + q) if entry["kind"].startswith("plateau") else math.exp(-q / 2)
            kernel[centre + y, centre + x] = value
    return kernel / kernel.sum()


def test_batch_equals_the_scalar_formulas():
    kernels = build_kernels(KERNELS, 21).double().numpy()
    for kernel, entry in zip(kernels, KERNELS, strict=True):
        np.testing.assert_allclose(kernel, scalar_kernel(entry, 21), atol=1e-7, err_msg=str(entry))
    assert kernels[6].min() < 0  # the lobes of a sinc are not clamped
    assert np.isfinite(kernels).all()


def test_none_is_no_blur():
    kernels = build_kernels([None, KERNELS[1]], 21)
    expected = torch.zeros(21, 21)
    expected[10, 10] = 1
    assert torch.equal(kernels[0], expected)
    images = torch.rand(2, 3, 24, 25, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(blur(images, kernels)[0], images[0], atol=1e-6)


@pytest.mark.parametrize("entry", [{"kind": "box", "side": 7}, {"kind": "iso", "side": 8}, {"kind": "iso", "side": 23}])
def test_impossible_kernels_are_refused(entry):
    with pytest.raises(ValueError, match="kernel (kind|side): got .*; expected"):
        build_kernels([entry], 21)
