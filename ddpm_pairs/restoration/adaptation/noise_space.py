"""Losses of noise-space adaptation (Noise-DA, arXiv 2406.18516), as pure functions.

Images are (N, 3, H, W). ``gamma`` (N,) is the cumulative signal level of the diffusion, in (0, 1).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_pairs.diffusion.schedule import Schedule

LEVELS = Schedule("linear", 1000, 1e-6, 1e-2)
"""The paper's noise schedule; ``alpha_bars[n - 1]`` is gamma after n steps."""

STEEPNESS = 5.0
"""Steepness of the ramp: halfway, it has reached 85% of its end."""


class Conditions(NamedTuple):
    """The two images that the denoiser gets besides the noised one."""

    synthetic: Tensor
    real: Tensor


def ramp(progress: float) -> float:
    """Return the share of the adaptation loss's weight: 0 at 0, rising to 0.987 at a progress of 1 and after it."""
    return 2 / (1 + math.exp(-STEEPNESS * min(progress, 1.0))) - 1


def signal_levels(alpha_bars: Tensor, t_range: tuple[int, int], numbers: Tensor) -> Tensor:
    """Draw continuous signal levels: a step uniformly, then gamma uniformly between it and the next step.

    Args:
        alpha_bars: Table of the schedule, (T,), float64; entry n - 1 is the level after n steps.
        t_range: First and last number of steps, 1 to T.
        numbers: Uniform random numbers in [0, 1), (N, 2).

    Returns:
        gamma (N,), float32.
    """
    first, last = t_range
    step = first + (numbers[:, 0] * (last - first)).long()
    return torch.lerp(alpha_bars[step - 1], alpha_bars[step], numbers[:, 1].to(alpha_bars.dtype)).float()


def noised(clean: Tensor, noise: Tensor, gamma: Tensor) -> Tensor:
    """Return sqrt(gamma) clean + sqrt(1 - gamma) noise."""
    gamma = gamma.view(-1, 1, 1, 1)
    return gamma.sqrt() * clean + (1 - gamma).sqrt() * noise


def shuffled(conditions: Conditions, swap: Tensor) -> Conditions:
    """Exchange the two conditions (whole images) of the samples for which ``swap`` (N,), bool, is true."""
    swap = swap.view(-1, 1, 1, 1)
    synthetic, real = conditions
    return Conditions(torch.where(swap, real, synthetic), torch.where(swap, synthetic, real))


def residuals_swapped(restored: Conditions, enlarged: Conditions) -> Conditions:
    """Add the residual of each restored image to the other input: the negative conditions of the contrast.

    Args:
        restored: The restored synthetic and real images.
        enlarged: Their inputs at HQ size; a residual is a restored image minus its input.
    """
    return Conditions(
        enlarged.synthetic + (restored.real - enlarged.real),
        enlarged.real + (restored.synthetic - enlarged.synthetic),
    )


def hinge(difference: Tensor, margin: float, mean: Tensor | None = None) -> Tensor:
    """Return the contrast loss, max(0, e_plus - e_minus + margin).

    Args:
        difference: e_plus - e_minus of each sample, (N,).
        margin: By how much e_minus must be larger.
        mean: Mean difference over the batches of all ranks. It decides whether the loss of this rank counts, so that
            the average over the ranks is the hinge of the mean. ``None`` applies the hinge to each sample instead.
    """
    if mean is None:
        return (difference + margin).clamp(min=0).mean()
    return torch.where(mean + margin > 0, difference.mean() + margin, torch.zeros_like(mean))
