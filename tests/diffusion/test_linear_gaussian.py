"""How exact the samplers are, on Gaussian pictures where everything is known in closed form.

Each frequency of power S has the optimal denoiser sqrt(ab) S / (ab S + 1 - ab) x_t, so every sampler is a linear
recurrence and its output's variance follows without drawing anything.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddpm_pairs.diffusion import samplers
from ddpm_pairs.diffusion.samplers import index_grid, make_plan, walk_back
from ddpm_pairs.diffusion.schedule import Schedule

POWERS = torch.logspace(-3, 2, 26, dtype=torch.float64)


def responses(schedule, plan, powers=POWERS):
    """What the real walk makes of a unit input, and of unit noise at each step: gain (F,) and (steps, F)."""

    def denoise(x, index):
        level = schedule.alpha_bars[index].view(-1, 1, 1, 1)
        return level.sqrt() * powers / (level * powers + 1 - level) * x

    def only(step):
        rows = [(*row[:3], row[3] if k == step else 0.0) for k, row in enumerate(plan.coefficients)]
        return replace(plan, coefficients=rows)

    noisy = [k for k, row in enumerate(plan.coefficients) if row[3] > 0]
    x = torch.zeros(1 + len(noisy), 1, 1, len(powers), dtype=torch.float64)
    x[0] = 1
    generators = [torch.Generator().manual_seed(0) for _ in x]
    drawn = torch.randn(1, 1, len(powers), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = walk_back(denoise, x, [only(None), *map(only, noisy)], generators)
    return out[0].flatten(), (out[1:] / drawn).flatten(1)


def output_power(schedule, t, sampler, num_steps, input_power=None, powers=POWERS, **options):
    """Power of what comes out, for pictures of ``input_power`` (default: those that the denoiser knows)."""
    plan = make_plan(schedule, t, sampler, num_steps, **options)
    gain, noise = responses(schedule, plan, powers)
    level = schedule.alpha_bars[t - 1]
    noised = level * (powers if input_power is None else input_power) + 1 - level
    return gain**2 * noised + noise.square().sum(0), gain * level.sqrt()


def worst_error(schedule, t, sampler, num_steps, **options):
    """Largest |10 log10(output / target)| in dB."""
    power, _ = output_power(schedule, t, sampler, num_steps, **options)
    return (10 * torch.log10(power / POWERS)).abs().max().item()


def reference_power(schedule, indices, sampler, eta=0.0):
    """The same by an own recurrence for (x, previous clean prediction) in the variables of the papers."""
    levels = [schedule.alpha_bars[i].item() for i in indices]
    powers = POWERS.numpy()
    result = []
    for power in powers:
        covariance, step_before = None, None
        for k, level in enumerate(levels):
            clean = math.sqrt(level) * power / (level * power + 1 - level)
            if covariance is None:
                covariance = np.array([[level * power + 1 - level, 0.0], [0.0, 0.0]])
            if k + 1 == len(levels):
                result.append(clean**2 * covariance[0, 0])
                break
            target = levels[k + 1]
            alpha, sigma, alpha_p, sigma_p = (math.sqrt(v) for v in (level, 1 - level, target, 1 - target))
            history = 0.0
            if sampler == "ancestral":
                beta = 1 - level / target
                keep = math.sqrt(1 - beta) * (1 - target) / (1 - level)
                direct = alpha_p * beta / (1 - level)
                noise = beta * (1 - target) / (1 - level)
            elif sampler == "ddim":
                noise = eta**2 * (1 - target) / (1 - level) * (1 - level / target)
                keep = math.sqrt(1 - target - noise) / sigma  # times the predicted noise (x - alpha x_0) / sigma
                direct = alpha_p - keep * alpha
            else:
                h = math.log(alpha_p / sigma_p) - math.log(alpha / sigma)
                if sampler == "dpmsolver++":
                    keep, weight, noise = sigma_p / sigma, alpha_p * (1 - math.exp(-h)), 0.0
                else:
                    keep = sigma_p / sigma * math.exp(-h)
                    weight = alpha_p * (1 - math.exp(-2 * h))
                    noise = sigma_p**2 * (1 - math.exp(-2 * h))
                ratio = 0.0 if step_before is None else h / step_before
                direct, history = weight * (1 + ratio / 2), -weight * ratio / 2
                step_before = h
            transition = np.array([[keep + direct * clean, history], [clean, 0.0]])
            covariance = transition @ covariance @ transition.T
            covariance[0, 0] += noise
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize(
    ("sampler", "eta"), [("ancestral", 0), ("ddim", 0.0), ("ddim", 0.7), ("dpmsolver++", 0), ("sde-dpmsolver++", 0)]
)
def test_walk_has_the_variance_of_the_recurrence(name, sampler, eta):
    schedule = Schedule(name, 1000)
    power, _ = output_power(schedule, 400, sampler, 12, eta=eta)
    reference = reference_power(schedule, index_grid(schedule, 400, 12), sampler, eta)
    torch.testing.assert_close(power, reference, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("t", [50, 100, 250, 500])
def test_default_is_nearer_to_the_truth_than_the_ancestral_walk(name, t):
    schedule = Schedule(name, 1000)
    errors = [worst_error(schedule, t, "sde-dpmsolver++", 12), worst_error(schedule, t, "ancestral", None)]
    assert errors[0] <= 0.7 * errors[1]


# In dB, for grids uniform in log-SNR that begin at index 250 and 500.
@pytest.mark.parametrize(
    ("name", "t", "sampler", "num_steps", "error"),
    [
        ("linear", 251, "ancestral", None, 1.08),
        ("linear", 501, "ancestral", None, 1.08),
        ("cosine", 501, "ancestral", None, 0.61),
        ("linear", 251, "sde-dpmsolver++", 10, 0.61),
        ("linear", 501, "sde-dpmsolver++", 10, 0.73),
        ("linear", 501, "sde-dpmsolver++", 5, 2.5),
        ("linear", 501, "dpmsolver++", 10, 0.49),
        ("linear", 251, "ancestral", 10, 2.4),
        ("linear", 251, "ddim", 10, 1.5),
        ("cosine", 501, "sde-dpmsolver++", 10, 0.29),
    ],
)
def test_known_errors(monkeypatch, name, t, sampler, num_steps, error):
    monkeypatch.setattr(samplers, "CURVE", 1.0)
    found = worst_error(Schedule(name, 1000), t, sampler, num_steps)
    assert found == pytest.approx(error, abs=0.02 if num_steps is None else max(0.03, 0.05 * error))


@pytest.mark.parametrize(
    ("sampler", "stochastic"), [("ancestral", True), ("sde-dpmsolver++", True), ("dpmsolver++", False)]
)
def test_stochastic_samplers_keep_rho_and_the_others_its_root(sampler, stochastic):
    schedule, t = Schedule("cosine", 1000), 300
    powers = torch.tensor([0.01, 0.1, 1.0, 10.0], dtype=torch.float64)
    snr = schedule.alpha_bars[t - 1] / (1 - schedule.alpha_bars[t - 1])
    rho = snr * powers / (1 + snr * powers)
    _, gain = output_power(schedule, t, sampler, None, powers=powers)
    torch.testing.assert_close(gain, rho if stochastic else rho.sqrt(), rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("sampler", "gains", "left"),
    [("ancestral", (0.10, 0.52), (-0.14, -1.3)), ("dpmsolver++", (0.31, 0.72), (-0.44, -2.8))],
)
def test_leftover_of_a_picture_ten_decibels_too_weak(sampler, gains, left):
    schedule = Schedule("linear", 1000)
    powers = torch.tensor([0.1, 1.0], dtype=torch.float64)
    weak, gain = output_power(schedule, 251, sampler, None, input_power=powers / 10, powers=powers)
    assert gain.tolist() == pytest.approx(gains, abs=0.01)
    assert (10 * torch.log10(weak / powers)).tolist() == pytest.approx(left, abs=0.05)
