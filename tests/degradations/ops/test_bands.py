import numpy as np
import pytest
import pywt
import torch

from ddpm_pairs.degradations.ops.bands import box_high, box_low, haar


def images(height=12, width=18):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_haar_is_pywts():
    expected = pywt.dwt2(images().numpy(), "haar", axes=(-2, -1))
    for band, wanted in zip(haar(images()), (expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(band.numpy(), wanted, atol=1e-12)


def test_haar_keeps_the_energy_and_its_low_band_is_twice_the_mean():
    found = haar(images())
    assert sum(band.square().sum() for band in found).item() == pytest.approx(images().square().sum().item())
    torch.testing.assert_close(found.low / 2, torch.nn.functional.avg_pool2d(images(), 2))


def test_box_bands_sum_to_the_image():
    x = images()
    torch.testing.assert_close(box_low(x) + box_high(x), x)
    torch.testing.assert_close(box_low(x)[..., 5, 7], x[..., 3:8, 5:10].mean((2, 3)))
    torch.testing.assert_close(box_low(x)[..., 0, 0], x[..., :3, :3].mean((2, 3)))


def test_a_constant_has_no_high_frequencies():
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert box_high(flat).abs().max() < 1e-6
    assert max(band.abs().max() for band in haar(flat)[1:]) < 1e-6
