import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from ddpm_pairs.degradations.blur import blur, pad_by_reflection
from ddpm_pairs.degradations.kernels import build_kernels

GENERALIZED = {"kind": "generalized_aniso", "side": 13, "sigma_x": 0.3, "sigma_y": 2.0, "angle": -2.5, "beta": 4.0}
SINC = {"kind": "sinc", "side": 21, "cutoff": math.pi / 5}


def test_blur_equals_scipy_with_one_kernel_a_picture():
    images = torch.rand(2, 3, 30, 26, generator=torch.Generator().manual_seed(1))
    kernels = build_kernels([GENERALIZED, SINC], 21)
    blurred = blur(images, kernels)
    for row in range(2):
        for channel in range(3):
            expected = correlate(images[row, channel].double().numpy(), kernels[row].double().numpy(), mode="mirror")
            np.testing.assert_allclose(blurred[row, channel], expected, atol=2e-6)


@pytest.mark.parametrize("height", [79, 80, 83, 160])
def test_a_lone_picture_is_blurred_as_in_company(height):
    images = torch.rand(1, 3, height, 33, generator=torch.Generator().manual_seed(1))
    kernel = build_kernels([GENERALIZED], 21)
    expected = blur(images.expand(2, -1, -1, -1), kernel.expand(2, -1, -1))
    assert torch.allclose(blur(images, kernel), expected[:1], atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 2), (10, 40), (11, 11)])
def test_padding_equals_numpy_however_small_the_picture(size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (10, 10), (10, 10)), mode="reflect")
    np.testing.assert_array_equal(pad_by_reflection(images, 10), expected)
