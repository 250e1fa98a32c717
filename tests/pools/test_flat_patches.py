"""Flat patches: where they are cut, and that their noise is the image's."""

import torch
from planted_noise import covariance, distance, noisy_image, planted_covariance

from ddpm_pairs.pools.flat_patches import flat_patches


def cut(image, side=32, variance=20.0, mean=0.0, most=8, seed=0):
    return flat_patches(image, side, variance, mean, most, seed)


def test_the_pool_has_the_covariance_of_the_noise():
    patches = torch.cat([cut(noisy_image(256, 256, seed), most=30) for seed in range(4)]).float()
    assert len(patches) > 100
    noise = patches - patches.mean(dim=(-2, -1), keepdim=True)
    assert distance(covariance(noise), planted_covariance()) < 0.05


def test_only_flat_parts_are_cut():
    image = noisy_image(64, 96, 1)
    image[:, :, 40:] += (torch.arange(56) % 8 * 8).byte()  # stripes
    patches = cut(image, side=16, most=100)
    assert len(patches) > 3
    places = [place for place in range(0, 81, 8) for patch in patches if contains(image, patch, place)]
    assert places and max(places) + 16 <= 40 + 8


def contains(image, patch, left):
    """Whether a patch begins in column ``left`` in any row that is a multiple of 8."""
    rows = range(0, image.shape[1] - 15, 8)
    return any(torch.equal(image[:, top : top + 16, left : left + 16], patch) for top in rows)


def test_limits_of_variance_and_mean():
    image = noisy_image(64, 64, 2)
    assert len(cut(image)) > 0
    assert len(cut(image, variance=1)) == 0 and len(cut(image, mean=130)) == 0 and len(cut(image, side=72)) == 0
    assert cut(image, variance=1).shape == (0, 3, 32, 32)


def test_black_and_white_samples_are_not_noise():
    assert len(cut(torch.full((3, 64, 64), 255, dtype=torch.uint8))) == 0
    assert len(cut(torch.zeros(3, 64, 64, dtype=torch.uint8))) == 0
    image = noisy_image(64, 64, 3)
    image[1, 30, 30] = 0
    left = cut(image, most=100)
    assert len(left) > 0 and left.min() > 0


def test_the_choice_is_by_seed_and_patches_overlap_by_half_at_most():
    image = noisy_image(128, 128, 4)
    patches = cut(image, side=16, most=8)
    assert torch.equal(patches, cut(image, side=16, most=8)) and len(patches) == 8
    assert not torch.equal(patches, cut(image, side=16, most=8, seed=1))
    assert len(cut(noisy_image(32, 32, 5), side=32, most=8)) == 1
    assert len(cut(noisy_image(40, 40, 5), side=32, most=8)) == 1
    assert len(cut(noisy_image(48, 48, 5), side=32, most=8)) >= 2
