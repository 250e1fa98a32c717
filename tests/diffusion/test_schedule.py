"""Noise schedules against diffusers, closed forms and a printed table."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm_pairs.diffusion.schedule import Schedule

# Index: (alpha_bar, sigma, log-SNR), worked out by hand for T = 1000.
TABLE = {
    "linear": {
        0: (0.9999, 0.0100, 9.21),
        20: (0.9937, 0.079, 5.07),
        50: (0.9700, 0.176, 3.47),
        125: (0.8440, 0.430, 1.69),
        250: (0.5214, 0.958, 0.09),
        500: (0.0778, 3.44, -2.47),
        750: (0.0033, 17.4, -5.71),
    },
    "cosine": {
        0: (0.99996, 0.0064, 10.09),
        20: (0.9981, 0.0435, 6.27),
        125: (0.9572, 0.212, 3.11),
        250: (0.8459, 0.427, 1.70),
        500: (0.4923, 1.016, -0.03),
        750: (0.1432, 2.45, -1.79),
    },
    "sigmoid": {
        0: (0.9997, 0.0173, 8.11),
        20: (0.9933, 0.082, 5.00),
        125: (0.9465, 0.238, 2.87),
        250: (0.8499, 0.420, 1.73),
        500: (0.4983, 1.003, -0.01),
        750: (0.1482, 2.40, -1.75),
    },
}


@pytest.mark.parametrize(
    ("name", "steps", "theirs"),
    [
        ("linear", 1000, {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        ("linear", 250, {"beta_schedule": "linear", "beta_start": 4e-4, "beta_end": 0.08}),
        ("cosine", 1000, {"beta_schedule": "squaredcos_cap_v2"}),
        ("cosine", 50, {"beta_schedule": "squaredcos_cap_v2"}),
    ],
)
def test_tables_are_those_of_diffusers(name, steps, theirs):
    reference = DDPMScheduler(num_train_timesteps=steps, **theirs)
    schedule = Schedule(name, steps)
    torch.testing.assert_close(schedule.betas.float(), reference.betas, rtol=2e-4, atol=1e-7)
    torch.testing.assert_close(schedule.alpha_bars.float(), reference.alphas_cumprod, rtol=1e-4, atol=1e-6)
    assert schedule.betas.dtype == schedule.alpha_bars.dtype == schedule.log_snr.dtype == torch.float64


def test_sigmoid_is_its_closed_form():
    steps = 100

    def logistic(x):
        return 1 / (1 + math.exp(-x))

    def level(u):
        return (logistic(3) - logistic(-3 + 6 * u)) / (logistic(3) - logistic(-3))

    alpha_bars = Schedule("sigmoid", steps).alpha_bars
    for i in range(steps - 1):  # the last one is 0 in the closed form and limited by beta <= 0.999
        assert alpha_bars[i].item() == pytest.approx(level((i + 1) / steps), rel=1e-9)
    assert alpha_bars[-1].item() == pytest.approx(alpha_bars[-2].item() * 0.001, rel=1e-9)


@pytest.mark.parametrize("name", TABLE)
def test_levels_at_a_thousand_steps(name):
    schedule = Schedule(name, 1000)
    for index, (alpha_bar, sigma, log_snr) in TABLE[name].items():
        level = schedule.alpha_bars[index].item()
        assert level == pytest.approx(alpha_bar, abs=6e-5)
        assert math.sqrt((1 - level) / level) == pytest.approx(sigma, rel=7e-3)
        assert schedule.log_snr[index].item() == pytest.approx(log_snr, abs=6e-3)


@pytest.mark.parametrize("name", TABLE)
def test_log_snr_falls_and_counts_steps(name):
    schedule = Schedule(name, 300)
    assert (schedule.log_snr.diff() < 0).all()
    assert schedule.log_snr_at(0) == math.inf
    level = schedule.alpha_bars[99].item()
    assert schedule.log_snr_at(100) == pytest.approx(math.log(level / (1 - level)))


def test_schedules_compare_by_name_and_length():
    assert Schedule("cosine", 100) == Schedule("cosine", 100) != Schedule("cosine", 101)


@pytest.mark.parametrize(
    ("name", "steps", "said"), [("karras", 10, "'karras'.*linear, cosine, sigmoid"), ("cosine", 1, "2 or more")]
)
def test_wrong_arguments(name, steps, said):
    with pytest.raises(ValueError, match=said):
        Schedule(name, steps)
