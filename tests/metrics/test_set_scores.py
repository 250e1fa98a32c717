import numpy as np
import pytest
import scipy.linalg
import torch

from ddpm_pairs.metrics.set_scores import KID_SUBSETS, frechet_distance, kernel_distance, set_scores


def features(n, d, seed, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix + shift


@pytest.mark.parametrize(("n", "m"), [(200, 150), (200, 20), (30, 25)], ids=["many", "mixed", "few"])
def test_frechet_distance_equals_scipys(n, m):
    first, second = features(n, 40, 0), features(m, 40, 1, scale=1.5, shift=0.3)
    covariances = [np.cov(part.numpy(), rowvar=False) for part in (first, second)]
    gap = (first.mean(0) - second.mean(0)).square().sum().item()
    # a singular product has no root by scipy's method; the usual remedy adds a little to the diagonals
    padded = [one + 1e-10 * np.eye(40) for one in covariances]
    root = scipy.linalg.sqrtm(padded[0] @ padded[1]).real
    expected = gap + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-3 if min(n, m) < 40 else 1e-9)


def test_frechet_distance_of_equal_spread_is_the_squared_gap_of_means():
    first = features(50, 8, 0)
    assert frechet_distance(first, first + 2.0) == pytest.approx(8 * 4.0)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    # (sigma_1 - sigma_2)^2 a dimension where one is a multiple of the other
    variance = first.var(dim=0).sum().item()
    mean = first.mean(0).square().sum().item()
    assert frechet_distance(first, 3 * first) == pytest.approx(4 * variance + 4 * mean)


def test_kernel_distance_equals_the_sum_over_pairs():
    first, second = features(24, 5, 0), features(30, 5, 1, shift=0.5)
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(KID_SUBSETS):
        a, b = (part[torch.randperm(len(part), generator=generator)[:12]].numpy() for part in (first, second))

        def kernel(x, y):
            return (x @ y / 5 + 1) ** 3

        within = sum(kernel(p[i], p[j]) for p in (a, b) for i in range(12) for j in range(12) if i != j) / (12 * 11)
        across = sum(kernel(x, y) for x in a for y in b) / 144
        values.append(within - 2 * across)
    mean, (low, high) = kernel_distance(first, second)
    assert mean == pytest.approx(np.mean(values), rel=1e-9)
    assert (low, high) == pytest.approx(np.quantile(values, [0.025, 0.975]), rel=1e-9)


def test_kernel_distance_is_about_zero_for_one_distribution_and_repeats():
    first, second = torch.randn(2, 400, 16, generator=torch.Generator().manual_seed(0)).unbind()
    mean, (low, high) = kernel_distance(first, second)
    assert low < 0 < high
    assert kernel_distance(first, second) == (mean, (low, high))


def test_set_scores_take_each_layer_for_its_own_score():
    result = {"fid": features(20, 6, 0), "fid192": features(20, 3, 1)}
    reference = {"fid": features(20, 6, 2), "fid192": features(20, 3, 3)}
    scores = set_scores(result, reference)
    assert scores.fid == frechet_distance(result["fid"], reference["fid"])
    assert scores.fid192 == frechet_distance(result["fid192"], reference["fid192"])
    assert (scores.kid, scores.kid_interval) == kernel_distance(result["fid"], reference["fid"])


def test_too_few_pictures_are_refused():
    few, enough = ({"fid": features(n, 6, 0), "fid192": features(n, 3, 1)} for n in (3, 4))
    with pytest.raises(ValueError, match="got 3 images in the reference set; expected 4 or more"):
        set_scores(enough, few)
