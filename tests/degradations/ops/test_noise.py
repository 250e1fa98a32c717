import math

import pytest
import torch

from ddpm_pairs.degradations.ops.noise import (
    add_noise,
    correlated_noise,
    gaussian_noise,
    luminance,
    peak_count,
    poisson_noise,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("gray", [False, True])
def test_gaussian_noise_has_its_standard_deviation(gray):
    noise = gaussian_noise(torch.full((1, 3, 256, 256), 0.5), 12.0, gray, generator())
    assert noise.shape == (1, 1 if gray else 3, 256, 256)
    assert noise.std().item() * 255 == pytest.approx(12.0, rel=0.015)
    assert noise.mean().item() * 255 == pytest.approx(0, abs=0.2)


def test_colour_noise_is_independent_over_channels():
    noise = gaussian_noise(torch.full((1, 3, 256, 256), 0.5), 12.0, False, generator()).flatten(2)[0]
    assert (torch.corrcoef(noise) - torch.eye(3)).abs().max() < 0.02


@pytest.mark.parametrize(
    "covariance",
    [
        [[0.004, 0.003, 0.001], [0.003, 0.006, 0.002], [0.001, 0.002, 0.005]],
        [[0.004, 0.004, 0.0], [0.004, 0.004, 0.0], [0.0, 0.0, 0.001]],  # two channels alike: singular
        [[0.0] * 3] * 3,
    ],
)
def test_correlated_noise_has_its_covariance_and_is_white_over_pixels(covariance):
    noise = correlated_noise(torch.full((1, 3, 400, 400), 0.5), covariance, generator())
    assert noise.shape == (1, 3, 400, 400)
    # the standard error of a covariance of 160,000 numbers is at most 0.0035 of the variances
    assert (torch.cov(noise[0].flatten(1)) - torch.tensor(covariance)).abs().max() < 4 * 0.0035 * 0.006
    assert noise.mean().abs() < 4 * 0.08 / 400
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean()
    assert neighbours.abs() < 4 * 0.006 / 400


def test_correlated_noise_is_added_and_clamped():
    parameters = {"kind": "correlated", "covariance": [[0.01, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]}
    image = torch.full((1, 3, 64, 64), 0.95)
    noisy = add_noise(image, {**parameters, "noise_seed": 3})
    assert noisy[:, 0].max() == 1 and torch.equal(noisy[:, 1:], image[:, 1:])
    assert (noisy[:, 0] - 0.95).clamp(max=0).std() > 0.03


@pytest.mark.parametrize("distinct", [1, 2, 3, 4, 5, 31, 32, 33, 64, 65, 128, 129, 255, 256])
def test_peak_count_is_the_next_power_of_two(distinct):
    levels = torch.arange(distinct).repeat(3).float().view(1, 3, distinct, 1)
    assert peak_count(levels).item() == 2 ** math.ceil(math.log2(distinct))


def test_poisson_noise_of_two_levels_has_the_variance_of_two_photons():
    # two distinct levels: V = 2, so x has variance x / 2, times the squared factor
    image = torch.full((1, 3, 300, 300), 51 / 255)
    image[..., 150:, :] = 204 / 255
    noise = poisson_noise(image, 0.5, False, generator())
    for half, level in ((noise[..., :150, :], 0.2), (noise[..., 150:, :], 0.8)):
        assert half.var().item() == pytest.approx(0.25 * level / 2, rel=0.03)
        assert half.mean().item() == pytest.approx(0, abs=0.005)


def test_poisson_noise_rounds_the_picture_first():
    nearly = torch.full((1, 3, 8, 8), 100.3 / 255)
    nearly[..., 0] = 99.8 / 255
    exact = torch.full((1, 3, 8, 8), 100 / 255)
    assert torch.equal(poisson_noise(nearly, 1.0, False, generator()), poisson_noise(exact, 1.0, False, generator()))


def test_gray_poisson_noise_follows_luminance():
    image = torch.zeros(1, 3, 300, 300)
    image[:, 1] = 1.0  # pure green: luminance 0.587, one level, V = 1
    noise = poisson_noise(image, 1.0, True, generator())
    level = round(0.587 * 255) / 255
    assert noise.shape[1] == 1
    assert noise.var().item() == pytest.approx(level, rel=0.03)
    assert luminance(image).mean().item() == pytest.approx(0.587)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_gray_noise_keeps_gray_pictures_gray_and_the_seed_decides(kind):
    image = torch.rand(1, 1, 40, 40, generator=generator()).expand(1, 3, 40, 40)
    parameters = {"kind": kind, "level": 2.0, "gray": True, "noise_seed": 7}
    noisy = add_noise(image, parameters)
    assert torch.allclose(noisy[:, :1].expand_as(noisy), noisy, atol=1e-7)
    assert not torch.equal(noisy, image)
    assert torch.equal(noisy, add_noise(image, parameters))
    assert not torch.equal(noisy, add_noise(image, {**parameters, "noise_seed": 8}))
    assert not torch.equal(*add_noise(image, {**parameters, "gray": False})[0, :2])


def test_noise_is_clamped_and_unknown_kinds_are_refused():
    image = torch.tensor([-0.2, 0.5, 1.3]).view(1, 1, 1, 3).expand(1, 3, 64, 3)
    noisy = add_noise(image, {"kind": "gaussian", "level": 30.0, "gray": False, "noise_seed": 1})
    assert noisy.min() == 0 and noisy.max() == 1
    with pytest.raises(ValueError, match="noise kind: got 'salt'; expected gaussian"):
        add_noise(image, {"kind": "salt", "level": 1.0, "gray": False, "noise_seed": 1})
