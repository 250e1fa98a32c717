"""Blur kernels, one per image, synthesized as a batch.

With Sigma = R(angle) diag(sigma_x^2, sigma_y^2) R(angle)^T and q(u) = u^T Sigma^-1 u on the integer grid u = (x, y)
around the center:

* Gaussian: exp(-q / 2)
* generalized Gaussian: exp(-q^beta / 2)
* plateau: 1 / (1 + q^beta)
* circular low-pass ("sinc") of cutoff w in (0, pi]: w J1(w |u|) / (2 pi |u|), w^2 / (4 pi) at the center

Each kernel is cropped to a square of odd side and divided by its sum (Real-ESRGAN, arXiv 2107.10833, sections 3.1 and
3.4).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

GAUSSIAN_KINDS = ("iso", "aniso")
GENERALIZED_KINDS = ("generalized_iso", "generalized_aniso")
PLATEAU_KINDS = ("plateau_iso", "plateau_aniso")
SINC = "sinc"
KINDS = (*GAUSSIAN_KINDS, *GENERALIZED_KINDS, *PLATEAU_KINDS, SINC)


def build_kernels(parameters: Sequence[dict[str, Any] | None], side: int) -> Tensor:
    """Synthesize kernels of different kinds and sides, each centered in a square of zeros.

    They are computed in double precision on the CPU (a few thousand numbers), so they are the same for every device.

    Args:
        parameters: Per kernel, ``kind`` (one of ``KINDS``) and ``side`` (odd, at most the argument ``side``); for a
            sinc, ``cutoff`` (radians per pixel); for all others, ``sigma_x`` and ``sigma_y`` (pixels), ``angle``
            (radians) and, for generalized and plateau kernels, ``beta``. ``None`` means no blur.
        side: Side of the square, odd.

    Returns:
        (N, side, side) float32; each kernel sums to 1, and a sinc has negative lobes.

    Raises:
        ValueError: If a kind is unknown, or if the side of a kernel is even or larger than the square.
    """
    filled = [{"kind": "iso", "side": 1} if entry is None else entry for entry in parameters]
    for entry in filled:
        if entry["kind"] not in KINDS:
            raise ValueError(f"kernel kind: got {entry['kind']!r}; expected one of {', '.join(KINDS)}")
        if entry["side"] % 2 == 0 or not 1 <= entry["side"] <= side:
            raise ValueError(f"kernel side: got {entry['side']}; expected an odd number from 1 to {side}")

    def column(name: str, default: float) -> Tensor:
        return torch.tensor([entry.get(name, default) for entry in filled], dtype=torch.float64).view(-1, 1, 1)

    def of_kind(kinds: Sequence[str]) -> Tensor:
        return torch.tensor([entry["kind"] in kinds for entry in filled], dtype=torch.bool).view(-1, 1, 1)

    offsets = torch.arange(side, dtype=torch.float64) - side // 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    power = _quadratic_form(x, y, column("sigma_x", 1), column("sigma_y", 1), column("angle", 0)) ** column("beta", 1)
    values = torch.where(of_kind(PLATEAU_KINDS), 1 / (1 + power), torch.exp(-power / 2))
    values = torch.where(of_kind((SINC,)), _circular_low_pass(torch.hypot(x, y), column("cutoff", 1)), values)
    inside = torch.maximum(x.abs(), y.abs()) <= column("side", 1) // 2
    values = torch.where(inside, values, 0)
    return (values / values.sum(dim=(-2, -1), keepdim=True)).float()


def _quadratic_form(x: Tensor, y: Tensor, sigma_x: Tensor, sigma_y: Tensor, angle: Tensor) -> Tensor:
    """q(u) in closed form: rotate u by -angle and divide each coordinate by its sigma."""
    along = (x * angle.cos() + y * angle.sin()) / sigma_x
    across = (y * angle.cos() - x * angle.sin()) / sigma_y
    return along**2 + across**2


def _circular_low_pass(radius: Tensor, cutoff: Tensor) -> Tensor:
    safe = radius.clamp(min=1)  # the only radius below 1 is the center, whose limit is known
    ring = cutoff * torch.special.bessel_j1(cutoff * safe) / (2 * math.pi * safe)
    return torch.where(radius == 0, cutoff**2 / (4 * math.pi), ring)
