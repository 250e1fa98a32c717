"""The losses of noise-space adaptation, by hand."""

import pytest
import torch

from ddpm_pairs.restoration.adaptation.noise_space import (
    LEVELS,
    Conditions,
    hinge,
    noised,
    ramp,
    residuals_swapped,
    shuffled,
    signal_levels,
)


@pytest.mark.parametrize(
    ("epoch", "alpha"), [(1, 0.0017), (50, 0.0788), (100, 0.1365), (200, 0.1862), (300, 0.1973), (900, 0.1973)]
)
def test_the_published_ramp(epoch, alpha):
    assert 0.2 * ramp(epoch / 300) == pytest.approx(alpha, abs=5e-5)


@pytest.mark.parametrize(
    ("n", "gamma", "digits"),
    [(1, 0.999999, 6), (100, 0.9516, 4), (500, 0.2862, 4), (900, 0.0172, 4), (1000, 0.0066, 4)],
)
def test_the_published_signal_levels(n, gamma, digits):
    assert round(LEVELS.alpha_bars[n - 1].item(), digits) == gamma


def test_levels_are_drawn_between_neighboring_steps():
    numbers = torch.tensor([[0.0, 0.0], [0.0, 0.5], [0.99999, 1.0], [0.5, 0.25]])
    table = LEVELS.alpha_bars
    expected = [table[0], (table[0] + table[1]) / 2, table[999], 0.75 * table[499] + 0.25 * table[500]]
    found = signal_levels(table, (1, 1000), numbers)
    torch.testing.assert_close(found, torch.stack(expected).float())
    few = signal_levels(table, (900, 1000), torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)))
    assert few.min() >= table[999].float() and few.max() <= table[899].float()
    assert few.max() - few.min() > 0.9 * (table[899] - table[999])


def test_noise_and_signal_add_up():
    clean, noise = torch.full((2, 3, 4, 4), 2.0), torch.ones(2, 3, 4, 4)
    found = noised(clean, noise, torch.tensor([0.64, 0.36]))
    assert torch.allclose(found[0], torch.tensor(2 * 0.8 + 0.6)) and torch.allclose(found[1], torch.tensor(1.2 + 0.8))


def flat(*levels):
    return torch.tensor(levels, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def test_shuffling_exchanges_whole_images_of_the_chosen_samples():
    pair = Conditions(flat(1, 2, 3), flat(10, 20, 30))
    synthetic, real = shuffled(pair, torch.tensor([False, True, True]))
    assert torch.equal(synthetic, flat(1, 20, 30)) and torch.equal(real, flat(10, 2, 3))


def test_residuals_go_to_the_other_input():
    restored, inputs = Conditions(flat(5, 1), flat(7, 0)), Conditions(flat(4, 4), flat(1, 1))
    swapped = residuals_swapped(restored, inputs)
    assert torch.equal(swapped.synthetic, flat(4 + 6, 4 - 1)) and torch.equal(swapped.real, flat(1 + 1, 1 - 3))


def test_the_hinge_of_the_mean_and_of_each_sample():
    difference = torch.tensor([0.5, -0.9])
    assert hinge(difference, 0.1, difference.mean()).item() == 0
    assert hinge(difference, 0.3, difference.mean()).item() == pytest.approx(0.1)
    assert hinge(difference, 0.1).item() == pytest.approx(0.3)


def test_ranks_together_have_the_hinge_of_the_mean():
    ranks, margin = (torch.tensor([0.5, 0.1]), torch.tensor([-0.4, -0.3])), 0.1
    mean = torch.cat(ranks).mean()
    assert sum(hinge(one, margin, mean) for one in ranks).item() / 2 == pytest.approx((mean + margin).item())
