import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from ddpm_pairs.degradations.ops.blur import LARGEST_DIRECT_SIDE, blur
from ddpm_pairs.degradations.ops.kernels import build_kernels
from ddpm_pairs.images.pixels import pad_by_reflection

TURNED = {"kind": "generalized_aniso", "sigma_x": 0.3, "sigma_y": 2.0, "angle": -2.5, "beta": 4.0}
SINC = {"kind": "sinc", "cutoff": math.pi / 5}


# both ways, for pictures that are cut into strips and not, of lengths that Fourier transforms like and not
@pytest.mark.parametrize("side", [1, 7, LARGEST_DIRECT_SIDE, LARGEST_DIRECT_SIDE + 2, 21, 41])
@pytest.mark.parametrize("size", [(5, 3), (30, 26), (79, 33), (97, 64)])
def test_blur_equals_scipy_with_one_kernel_a_picture(side, size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    kernels = build_kernels([TURNED | {"side": side}, SINC | {"side": side}], side)
    blurred = blur(images, kernels)
    for row in range(2):
        for channel in range(3):
            expected = correlate(images[row, channel].double().numpy(), kernels[row].double().numpy(), mode="mirror")
            np.testing.assert_allclose(blurred[row, channel], expected, atol=3e-6)


@pytest.mark.parametrize("side", [11, 21])
def test_rows_do_not_depend_on_their_neighbours(side):
    images = torch.rand(3, 3, 90, 50, generator=torch.Generator().manual_seed(1))
    kernels = build_kernels([TURNED | {"side": side}, SINC | {"side": side}, None], side)
    blurred = blur(images, kernels)
    for row in range(3):
        assert torch.equal(blur(images[row : row + 1], kernels[row : row + 1])[0], blurred[row])
    assert torch.equal(blur(images, kernels[:1])[0], blurred[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 2), (10, 40), (11, 11)])
def test_padding_equals_numpy_however_small_the_picture(size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (10, 10), (10, 10)), mode="reflect")
    np.testing.assert_array_equal(pad_by_reflection(images, 10), expected)
