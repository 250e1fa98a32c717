import numpy as np
import pytest
import torch
from scipy.stats import poisson

from ddpm_pairs.degradations.ops.poisson import alias_table, poisson_counts


def test_alias_table_holds_the_chances():
    chances = np.random.default_rng(0).dirichlet(np.full(40, 0.3))
    thresholds, alias = alias_table(chances.tolist())
    held = np.zeros(40)
    for column, (threshold, other) in enumerate(zip(thresholds, alias, strict=True)):
        assert -1e-12 <= threshold <= 1
        held[column] += threshold / 40
        held[other] += (1 - threshold) / 40
    np.testing.assert_allclose(held, chances, atol=1e-12)


@pytest.mark.parametrize("peak", [1, 2, 32, 256])
@pytest.mark.parametrize("level", [1, 40, 128, 255])
def test_counts_have_the_poisson_distribution(peak, level):
    n, mean = 400_000, level / 255 * peak
    counts = poisson_counts(torch.full((n,), float(level)), peak, torch.Generator().manual_seed(level + peak))
    observed = np.bincount(counts.int().numpy(), minlength=600)
    expected = n * poisson.pmf(np.arange(len(observed)), mean)
    common = expected > 10
    chi_square = ((observed - expected)[common] ** 2 / expected[common]).sum()
    # of mean df and variance 2 df
    assert chi_square < common.sum() + 5 * np.sqrt(2 * common.sum())
    assert abs(counts.double().mean() - mean) < 5 * np.sqrt(mean / n)


def test_every_pixel_has_the_mean_of_its_level_and_the_seed_decides():
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(500, 3, 16, 16).contiguous()
    counts = poisson_counts(levels, 256, torch.Generator().manual_seed(5))
    means = levels[0, 0] * 256 / 255
    assert counts.shape == levels.shape
    assert (counts[..., 0, 0] == 0).all()
    assert ((counts.mean(dim=(0, 1)) - means).abs() <= 5 * (means / 1500).sqrt()).all()
    assert torch.equal(counts, poisson_counts(levels, 256, torch.Generator().manual_seed(5)))
    assert not torch.equal(counts, poisson_counts(levels, 256, torch.Generator().manual_seed(6)))
