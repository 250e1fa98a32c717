"""Draw plain Python numbers from a CPU generator."""

from collections.abc import Sequence

import torch

SEED_LIMIT = 2**53
"""Seeds are smaller than this, so any JSON reader represents them exactly."""


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Draw from U(low, high), in double precision."""
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def chance(generator: torch.Generator, probability: float) -> bool:
    """Draw True with the given probability."""
    return uniform(generator, 0, 1) < probability


def choice(generator: torch.Generator, options: Sequence, weights: Sequence[float] | None = None):  # noqa: ANN201
    """Draw one of the options, with equal probability or with weights that sum to 1."""
    position = uniform(generator, 0, 1)
    if weights is None:
        return options[int(position * len(options))]
    for option, weight in zip(options, weights, strict=True):
        position -= weight
        if position < 0:
            return option
    return options[-1]  # rounding: ten weights of 0.1 sum to slightly less than 1


def seed(generator: torch.Generator) -> int:
    """Draw a seed for another generator."""
    return int(torch.randint(SEED_LIMIT, (), generator=generator).item())
