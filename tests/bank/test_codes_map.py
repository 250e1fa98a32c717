"""The map of codes on planted codes, and the measures that color it."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from ddpm_pairs.bank.codes_map import measured_blur, measured_noise, principal_components, save_codes_map


def test_planted_directions_are_found():
    """Codes that vary by 3 along one direction and by 1 along another, which is at a right angle."""
    random = torch.Generator().manual_seed(0)
    planes, _ = torch.linalg.qr(torch.randn(12, 2, generator=random, dtype=torch.float64))
    places = torch.randn(200, 2, generator=random, dtype=torch.float64)
    places, _ = torch.linalg.qr(places - places.mean(dim=0))
    places = places * torch.tensor([3.0, 1.0]).double()
    found, shares = principal_components((places @ planes.mT + 7).float())
    signs = (found * places).sum(dim=0).sign()
    torch.testing.assert_close(found * signs, places, rtol=0, atol=1e-5)
    assert shares == pytest.approx([0.9, 0.1], abs=1e-5)
    assert torch.equal(principal_components((places @ planes.mT).float())[0].sign(), found.sign())


@pytest.mark.parametrize(
    ("codes", "places", "shares"),
    [
        (torch.tensor([[1.0, 5.0]]), [[0, 0]], [0, 0]),
        (torch.tensor([[0.0, 0.0], [0.0, 2.0]]), [[-1, 0], [1, 0]], [1, 0]),
        (torch.tensor([[0.0], [2.0], [4.0]]), [[-2, 0], [0, 0], [2, 0]], [1, 0]),
    ],
)
def test_fewer_than_two_directions(codes, places, shares):
    found, found_shares = principal_components(codes)
    torch.testing.assert_close(found, torch.tensor(places).double())
    assert found_shares == pytest.approx(shares)


def test_blur_is_the_loss_of_a_gaussian_in_its_octave():
    """A Gaussian of 2 px removes 10 log10(exp((2 pi f 2)^2)) dB at f: 2.7 dB at 1/16, 10.7 dB at 1/8."""
    noise = np.random.default_rng(0).normal(128, 30, (3, 256, 256))
    hq, lq = (
        torch.from_numpy(one.clip(0, 255).round().astype(np.uint8))
        for one in (noise, gaussian_filter(noise, (0, 2, 2)))
    )
    assert 2.7 < measured_blur(hq, lq) < 10.7
    assert measured_blur(hq, hq) == 0
    assert np.isfinite(measured_blur(torch.zeros_like(hq), lq))


def test_noise_is_its_standard_deviation():
    noise = np.random.default_rng(0).normal(0, 8, (1, 64, 64))
    gray = torch.from_numpy((128 + noise).round().astype(np.uint8)).expand(3, -1, -1)
    assert measured_noise(gray) == pytest.approx(8, rel=0.05)
    assert measured_noise(torch.full((3, 7, 7), 90, dtype=torch.uint8)) == pytest.approx(0, abs=1e-3)


def test_the_map_is_drawn(tmp_path):
    codes = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    save_codes_map(tmp_path / "x.codes.png", codes, list(range(30)), list(range(30)), "a $ name_: 30 codes")
    with Image.open(tmp_path / "x.codes.png") as image:
        assert image.size == (1150, 500) and len(image.convert("RGB").getcolors(2**20)) > 100
