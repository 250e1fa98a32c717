import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from scipy.special import j1

from ddpm_pairs.degradations.kernels import blur, build_kernels, pad_by_reflection

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
    assert torch.equal(blur(images, kernels)[0], images[0])


@pytest.mark.parametrize("entry", [{"kind": "box", "side": 7}, {"kind": "iso", "side": 8}, {"kind": "iso", "side": 23}])
def test_impossible_kernels_are_refused(entry):
    with pytest.raises(ValueError, match="kernel of"):
        build_kernels([entry], 21)


def test_blur_equals_scipy_with_one_kernel_a_picture():
    images = torch.rand(2, 3, 30, 26, generator=torch.Generator().manual_seed(1))
    kernels = build_kernels([KERNELS[3], KERNELS[6]], 21)
    blurred = blur(images, kernels)
    for row in range(2):
        for channel in range(3):
            expected = correlate(images[row, channel].double().numpy(), kernels[row].double().numpy(), mode="mirror")
            np.testing.assert_allclose(blurred[row, channel], expected, atol=2e-6)


@pytest.mark.parametrize("height", [79, 80, 83, 160])
def test_a_lone_picture_is_blurred_as_in_company(height):
    images = torch.rand(1, 3, height, 33, generator=torch.Generator().manual_seed(1))
    kernel = build_kernels([KERNELS[3]], 21)
    expected = blur(images.expand(2, -1, -1, -1), kernel.expand(2, -1, -1))
    assert torch.allclose(blur(images, kernel), expected[:1], atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 2), (10, 40), (11, 11)])
def test_padding_equals_numpy_however_small_the_picture(size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (10, 10), (10, 10)), mode="reflect")
    np.testing.assert_array_equal(pad_by_reflection(images, 10), expected)
