"""Scores on a test picture by picture, and what one restorer gains over another."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3}
"""What is scored, and the decimals shown."""


def per_picture(folder: Path) -> dict[str, np.ndarray]:
    """Scores of the test pictures in the order of their keys."""
    with (folder / "pictures.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["key"])
    return {metric: np.array([float(row[metric]) for row in rows]) for metric in DIGITS}


def set_metrics(folder: Path) -> dict[str, Any]:
    """What a test wrote of all its pictures together: means, FID, and under ``input`` the means of LQ as it is."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def gain_in_words(gain: np.ndarray, digits: int) -> str:
    """The mean of paired differences and its 95% interval, bootstrapped over the pictures."""
    found = bootstrap((gain,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
    mean, low, high = (f"{value:+.{digits}f}" for value in (gain.mean(), found.low, found.high))
    return f"{mean} ({low} to {high})"


def markdown(rows: list[list[str]]) -> str:
    """A table, the first row of which is its head."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
