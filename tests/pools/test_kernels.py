"""Learned kernels made ready for a pool: cleaned, centered, and composed."""

import math

import pytest
import torch

from ddpm_pairs.degradations.learned.pools import blur_and_decimate
from ddpm_pairs.degradations.ops.kernels import build_kernels
from ddpm_pairs.pools.kernel_gan import CENTER, KERNEL_SIDE, NoKernel
from ddpm_pairs.pools.kernels import center_of, composed, finished_kernel, moved, shape_of


def learned(row=CENTER, column=CENTER, sigmas=(1.0, 1.5), total=1.0):
    """A Gaussian as the training would leave it, with small noise everywhere."""
    places = torch.arange(KERNEL_SIDE)
    kernel = torch.exp(-(((places - row) / sigmas[0]) ** 2) / 2)[:, None] * torch.exp(
        -(((places - column) / sigmas[1]) ** 2) / 2
    )
    noise = 1e-3 * torch.randn(KERNEL_SIDE, KERNEL_SIDE, generator=torch.Generator().manual_seed(0))
    return total * (kernel + noise * kernel.max()) / kernel.sum()


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("place", [(CENTER, CENTER), (6.1, 7.2), (7.3, 5.8)])
def test_a_finished_kernel_is_centered_to_the_last_digit(scale, place):
    kernel = finished_kernel(learned(*place), scale)
    assert kernel.shape == {2: (16, 16), 4: (46, 46)}[scale] and kernel.dtype == torch.float32
    assert kernel.min() == 0
    torch.testing.assert_close(kernel.double().sum(), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-6)
    middle = (len(kernel) - 1) / 2
    torch.testing.assert_close(center_of(kernel.double()), torch.full((2,), middle).double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [2, 4])
def test_hq_and_lq_are_aligned(scale):
    kernel = finished_kernel(learned(6.2, 7.1), scale)
    ramp = torch.arange(96.0).expand(1, 1, 96, 96)
    expected = torch.arange(96 // scale) * scale + (scale - 1) / 2
    inner = slice(24 // scale, 72 // scale)
    for image, dim in ((ramp, 0), (ramp.mT, 1)):
        line = blur_and_decimate(image, kernel, scale)[0, 0].mean(dim=dim)
        assert (line - expected)[inner].abs().max() < 0.1  # HQ px
        assert (line - expected)[inner].abs().max() < 1e-3


def test_composing_is_halving_twice():
    generator = torch.Generator().manual_seed(1)
    kernel, image = torch.rand(16, 16, generator=generator), torch.rand(1, 2, 128, 128, generator=generator)
    twice = blur_and_decimate(blur_and_decimate(image, kernel, 2), kernel, 2)
    once = blur_and_decimate(image, composed(kernel), 4)
    torch.testing.assert_close(once[..., 6:-6, 6:-6], twice[..., 6:-6, 6:-6], rtol=1e-5, atol=1e-5)


def test_small_taps_are_removed_before_composing():
    kernel = finished_kernel(learned(sigmas=(0.6, 0.6)), 2)
    assert (kernel > 0).sum() < 30


def test_a_kernel_moves_by_a_fraction():
    kernel = torch.zeros(9, 9)
    kernel[4, 4] = 1
    torch.testing.assert_close(center_of(moved(kernel, torch.tensor([-1.3, 0.6]))), torch.tensor([2.7, 4.6]))


def test_the_shape_is_measured():
    parameters = {"kind": "aniso", "side": 41, "sigma_x": 3.0, "sigma_y": 1.5, "angle": -math.radians(30)}
    shape = shape_of(build_kernels([parameters], 41)[0])
    assert (shape.wide, shape.narrow, shape.degrees) == pytest.approx((3, 1.5, 30), rel=0.01)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (learned(total=0.4), "does not sum to 1"),
        (learned() * math.nan, "does not sum to 1"),
        (learned(row=CENTER + 1.5), "1.5 px off center"),
    ],
)
def test_diverged_kernels_are_refused(kernel, message):
    with pytest.raises(NoKernel, match=message):
        finished_kernel(kernel, 4)
