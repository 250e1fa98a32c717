"""From the learned kernel of an image to that of the pool: cleaned, centered, for the scale of the pool."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.pools.kernel_gan import CENTER, NoKernel

SCALES = (2, 4)
SMALLEST = 0.01
"""Taps below this share of the largest one are noise of the training, and set to zero."""
MOST_DRIFT = 1.0
"""Farthest that a kernel may be off its place, px; farther kernels did not converge."""
SIDE_2, SIDE_4 = 16, 46
"""Sides of finished kernels for a scale of 2 and of 4."""


@dataclass(frozen=True)
class Shape:
    """Measured shape of a kernel.

    Attributes:
        wide: Standard deviation along the axis of largest extent, HQ px.
        narrow: Standard deviation across it, HQ px.
        degrees: Direction of that axis, from 0 (horizontal) to 180, counterclockwise on screen.
    """

    wide: float
    narrow: float
    degrees: float


def finished_kernel(learned: Tensor, scale: int) -> Tensor:
    """Clean and center a learned kernel, and compose it with itself for a scale of 4.

    Args:
        learned: A result of ``estimate_kernel``.
        scale: 2 or 4.

    Returns:
        (16, 16) or (46, 46) float32, not negative, sums to 1, its center of mass in the middle.

    Raises:
        NoKernel: If the training has not converged.
    """
    kernel = learned.double()
    if not kernel.isfinite().all() or not 0.5 < kernel.sum() < 1.5:
        raise NoKernel("the training diverged; the kernel does not sum to 1")
    kernel = torch.where(kernel >= SMALLEST * kernel.max(), kernel, 0)
    kernel = kernel / kernel.sum()
    drift = center_of(kernel) - CENTER
    if drift.abs().max() > MOST_DRIFT:
        raise NoKernel(f"the training diverged; the kernel is {drift.abs().max():.1f} px off center")
    before = int((SIDE_2 - 1) / 2 - CENTER)  # moves the center to the middle of the square
    after = SIDE_2 - len(kernel) - before
    kernel = moved(F.pad(kernel, (before, after, before, after)), -drift)
    return (kernel if scale == 2 else composed(kernel)).float()


def composed(kernel: Tensor) -> Tensor:
    """Return the kernel of halving twice with a kernel: it, convolved with itself spread over every second pixel.

    Args:
        kernel: (k, k).

    Returns:
        (3 k - 2, 3 k - 2), with taps w = 2 u + v for all taps u and v.
    """
    return F.conv_transpose2d(kernel[None, None], kernel[None, None], stride=2)[0, 0]


def center_of(kernel: Tensor) -> Tensor:
    """Return the row and the column of the center of mass of a kernel that sums to 1."""
    places = torch.arange(len(kernel), dtype=kernel.dtype)
    return torch.stack([kernel.sum(dim=1) @ places, kernel.sum(dim=0) @ places])


def moved(kernel: Tensor, by: Tensor) -> Tensor:
    """Move a kernel by a fraction of pixels with linear interpolation, which moves its center by exactly that much.

    Args:
        kernel: (k, k), zero where it would be moved beyond the square.
        by: Rows and columns.
    """
    for shift in by.tolist():
        whole = math.floor(shift)
        kernel = torch.lerp(kernel.roll(whole, dims=0), kernel.roll(whole + 1, dims=0), shift - whole).mT
    return kernel


def shape_of(kernel: Tensor) -> Shape:
    """Measure a kernel (k, k) that sums to 1."""
    kernel = kernel.double()
    rows, columns = (torch.arange(len(kernel)) - place for place in center_of(kernel))
    up_down, sideways = kernel.sum(dim=1) @ rows**2, kernel.sum(dim=0) @ columns**2
    both = rows @ kernel @ columns
    values, vectors = torch.linalg.eigh(torch.stack([torch.stack([up_down, both]), torch.stack([both, sideways])]))
    narrow, wide = values.clamp(min=0).sqrt().tolist()
    row, column = vectors[:, 1].tolist()
    return Shape(wide, narrow, math.degrees(math.atan2(-row, column)) % 180)
