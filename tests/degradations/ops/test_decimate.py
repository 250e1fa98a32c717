import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import convolve

from ddpm_pairs.degradations.ops.decimate import decimate, shifted_gaussian


def original(image: np.ndarray, sigma: float, step: int) -> np.ndarray:
    """BSRGAN's way: a 25x25 Gaussian, resampled linearly as a picture, a flipping convolution, every step-th pixel."""
    axis = np.arange(25.0)
    y, x = np.meshgrid(axis - 12, axis - 12, indexing="ij")
    kernel = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    moved = (axis + (step - 1) / 2).clip(0, 24)
    rows, columns = np.meshgrid(moved, moved, indexing="ij")
    kernel = RegularGridInterpolator((axis, axis), kernel)((rows, columns))
    kernel /= kernel.sum()
    return np.stack([convolve(plane, kernel, mode="mirror") for plane in image])[:, ::step, ::step]


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("sigma", [0.1, 0.9, 2.4])
def test_equals_the_original_with_scipy(step, sigma):
    images = torch.rand(2, 3, 48, 36, generator=torch.Generator().manual_seed(0))
    decimated = decimate(images, sigma, (step - 1) / 2, step)
    assert decimated.shape == (2, 3, 48 // step, 36 // step)
    for row, image in zip(decimated, images, strict=True):
        np.testing.assert_allclose(row, original(image.double().numpy(), sigma, step), atol=1e-6)


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("sigma", [0.1, 0.3, 2.4])
def test_shift_and_phase_cancel(step, sigma):
    ramp = torch.arange(96.0).expand(1, 1, 96, 96)
    expected = (torch.arange(96 // step) + 0.5) * step - 0.5
    inner = slice(16 // step, -16 // step)
    for picture in (ramp, ramp.mT):
        decimated = decimate(picture, sigma, (step - 1) / 2, step)[0, 0]
        line = decimated.mean(dim=0) if picture is ramp else decimated.mean(dim=1)
        assert (line - expected)[inner].abs().max() < 1e-3
    # an unshifted kernel would leave all of it (step - 1) / 2 px away
    assert (decimate(ramp, sigma, 0.0, step)[0, 0, 0] - expected + (step - 1) / 2)[inner].abs().max() < 1e-3


def test_shifted_gaussian_is_symmetric_about_its_shift():
    line = shifted_gaussian(1.3, 1.5, 25)
    assert line.sum().item() == pytest.approx(1)
    assert torch.allclose(line[1:], line[1:].flip(0).roll(2), atol=1e-12)
