"""Per-image scores of a test, and gains of one restorer over another."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3}
"""Metrics and their numbers of decimals."""


def per_picture(folder: Path) -> dict[str, np.ndarray]:
    """Return the scores of the test images, sorted by key."""
    with (folder / "pictures.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["key"])
    return {metric: np.array([float(row[metric]) for row in rows]) for metric in DIGITS}


def set_metrics(folder: Path) -> dict[str, Any]:
    """Return a test's scores of the whole set: means, FID, and under ``input`` the means of the unrestored LQ."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def gain_in_words(gain: np.ndarray, digits: int) -> str:
    """Return the mean of paired differences with its 95% interval, bootstrapped over the images."""
    found = bootstrap((gain,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
    mean, low, high = (f"{value:+.{digits}f}" for value in (gain.mean(), found.low, found.high))
    return f"{mean} ({low} to {high})"


def markdown(rows: list[list[str]]) -> str:
    """Return a Markdown table; the first row is the header."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
