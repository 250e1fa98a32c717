"""Comparing drawn numbers with the distribution they shall have."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from scipy.stats import kstest


def assert_share(hits: int, probability: float, of: int) -> None:
    """Within 4 standard errors; exactly, for a probability of 0 or 1."""
    error = math.sqrt(probability * (1 - probability) / of)
    assert abs(hits / of - probability) <= 4 * error, f"{hits} of {of}, expected {probability}"


def assert_uniform(values: Sequence[float], low: float, high: float) -> None:
    """Inside [low, high], and the largest distance between distribution functions as rare as 4 standard errors."""
    assert low <= min(values) and max(values) <= high
    statistic = kstest(values, "uniform", (low, high - low)).statistic
    assert statistic * math.sqrt(len(values)) < 2.3, f"{len(values)} values, expected U({low}, {high})"


def assert_equally_likely(values: Iterable[Any], options: Iterable[Any]) -> None:
    """Every option about equally often, and nothing else; all counts together by chi-square."""
    counts, options = Counter(values), list(options)
    assert set(counts) == set(options)
    expected = counts.total() / len(options)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    freedom = len(options) - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom) + 8, counts
