"""The map of codes: their first two principal components, colored by what was measured on the LQ faces."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_pairs.files import atomic_file
from ddpm_pairs.metrics.texture import band_names, band_power, luminance_noise, power_gap_db

_OCTAVE = 3
"""Blur is measured in this octave, counted from the finest: finer ones contain more noise than detail."""

_INK = "#191919"


def measured_blur(hq: Tensor, lq: Tensor) -> float:
    """Return how much weaker LQ's detail is than HQ's, in dB, in the octave 1/16 to 1/8 cycles per HQ pixel.

    Args:
        hq: uint8 (3, S, S), S of 8 px or more; below 32 px, the coarsest octave is used.
        lq: LQ on the HQ grid, uint8 (3, S, S).
    """
    power = [band_power(one[None].float() / 255).clamp(min=1e-3) for one in (hq, lq)]
    return float(power_gap_db(*power)[max(-_OCTAVE, -len(power[0]))])


def measured_noise(lq: Tensor) -> float:
    """Return the luminance noise of LQ, uint8 (3, h, w) in its own pixels, in 8-bit units."""
    return luminance_noise(lq[None].float() / 255)


def principal_components(codes: Tensor) -> tuple[Tensor, list[float]]:
    """Project codes onto the two directions in which they vary most.

    Args:
        codes: (N, code).

    Returns:
        (N, 2), float64, and the share of the variance in each direction. The sign of a direction is chosen so that its
        largest entry is positive; with fewer than two directions, the rest is 0.
    """
    centered = codes.double() - codes.double().mean(dim=0)
    _, strengths, directions = torch.linalg.svd(centered, full_matrices=False)
    directions = directions[:2]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    places = centered @ (directions * largest.sign()).mT
    shares = strengths.square() / strengths.square().sum().clamp(min=1e-30)
    missing = 2 - len(directions)
    return torch.nn.functional.pad(places, (0, missing)), [*shares[:2].tolist(), *[0.0] * missing]


def save_codes_map(path: Path, codes: Tensor, blur: list[float], noise: list[float], title: str) -> None:
    """Draw the map, once per measure.

    Args:
        path: The PNG to write.
        codes: (N, code).
        blur: N values of ``measured_blur``.
        noise: N values of ``measured_noise``.
        title: Title of the figure.
    """
    places, shares = principal_components(codes)
    figure = Figure(figsize=(11.5, 5.0), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=12, color=_INK, parse_math=False)
    octave = band_names(_OCTAVE)[0]
    measures = (
        ("blur", f"detail lost at {octave} cycles per HQ pixel (dB)", blur),
        ("noise", "standard deviation of luminance noise (levels of 255)", noise),
    )
    for axes, (name, label, values) in zip(figure.subplots(1, 2), measures, strict=True):
        dots = axes.scatter(*places.mT.numpy(), c=values, s=22, cmap="viridis", edgecolors="white", linewidths=0.3)
        figure.colorbar(dots, ax=axes, label=label)
        axes.set_title(f"codes by measured {name} of the LQ faces", fontsize=11, color=_INK)
        axes.set_xlabel(f"1st principal component ({shares[0]:.0%} of the variance)")
        axes.set_ylabel(f"2nd principal component ({shares[1]:.0%})")
        axes.locator_params(nbins=5)  # small numbers have long labels
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
