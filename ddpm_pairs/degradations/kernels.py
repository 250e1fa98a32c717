"""Blur kernels that differ from picture to picture, synthesised and applied in a batch.

With Sigma = R(angle) diag(sigma_x^2, sigma_y^2) R(angle)^T and q(u) = u^T Sigma^-1 u on the integer grid u = (x, y)
around the centre:

* Gaussian: exp(-q / 2)
* generalized Gaussian: exp(-q^beta / 2)
* plateau: 1 / (1 + q^beta)
* circular low-pass ("sinc") of cutoff w in (0, pi]: w J1(w |u|) / (2 pi |u|), w^2 / (4 pi) at the centre

each cut to a square of odd side and divided by its sum (Real-ESRGAN, arXiv 2107.10833, sections 3.1 and 3.4).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from kornia.filters import filter2d
from torch import Tensor

GAUSSIAN_KINDS = ("iso", "aniso")
GENERALIZED_KINDS = ("generalized_iso", "generalized_aniso")
PLATEAU_KINDS = ("plateau_iso", "plateau_aniso")
SINC = "sinc"
KINDS = (*GAUSSIAN_KINDS, *GENERALIZED_KINDS, *PLATEAU_KINDS, SINC)
STRIPS = 8


def build_kernels(parameters: Sequence[dict[str, Any] | None], side: int) -> Tensor:
    """Synthesise kernels of different kinds and sides, each centred in one square of zeros.

    They are computed in double precision on the CPU (a few thousand numbers), so that they are the same for every
    device.

    Args:
        parameters: per kernel `kind` (one of `KINDS`) and `side` (odd, at most `side`); for a sinc `cutoff` (radians
            per pixel), else `sigma_x`, `sigma_y` (pixels), `angle` (radians) and, for generalized and plateau kernels,
            `beta`. None stands for no blur.
        side: odd side of the square.

    Returns:
        (N, side, side) float32, each kernel of sum 1; a sinc has negative lobes.

    Raises:
        ValueError: for an unknown kind, an even side or one that is larger than the square.
    """
    filled = [{"kind": "iso", "side": 1} if entry is None else entry for entry in parameters]
    for entry in filled:
        if entry["kind"] not in KINDS:
            raise ValueError(f"kernel of kind {entry['kind']!r} is unknown: give one of {', '.join(KINDS)}")
        if entry["side"] % 2 == 0 or not 1 <= entry["side"] <= side:
            raise ValueError(f"kernel of side {entry['side']}: give an odd side from 1 to {side}")

    def column(name: str, default: float) -> Tensor:
        return torch.tensor([entry.get(name, default) for entry in filled], dtype=torch.float64).view(-1, 1, 1)

    def of_kind(kinds: Sequence[str]) -> Tensor:
        return torch.tensor([entry["kind"] in kinds for entry in filled]).view(-1, 1, 1)

    offsets = torch.arange(side, dtype=torch.float64) - side // 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    power = _quadratic_form(x, y, column("sigma_x", 1), column("sigma_y", 1), column("angle", 0)) ** column("beta", 1)
    values = torch.where(of_kind(PLATEAU_KINDS), 1 / (1 + power), torch.exp(-power / 2))
    values = torch.where(of_kind((SINC,)), _circular_low_pass(torch.hypot(x, y), column("cutoff", 1)), values)
    inside = torch.maximum(x.abs(), y.abs()) <= column("side", 1) // 2
    values = torch.where(inside, values, 0)
    return (values / values.sum(dim=(-2, -1), keepdim=True)).float()


def _quadratic_form(x: Tensor, y: Tensor, sigma_x: Tensor, sigma_y: Tensor, angle: Tensor) -> Tensor:
    """q(u) in closed form: u turned by -angle, each coordinate over its sigma."""
    along = (x * angle.cos() + y * angle.sin()) / sigma_x
    across = (y * angle.cos() - x * angle.sin()) / sigma_y
    return along**2 + across**2


def _circular_low_pass(radius: Tensor, cutoff: Tensor) -> Tensor:
    safe = radius.clamp(min=1)  # the only radius below 1 is the centre, whose limit is known
    ring = cutoff * torch.special.bessel_j1(cutoff * safe) / (2 * math.pi * safe)
    return torch.where(radius == 0, cutoff**2 / (4 * math.pi), ring)


def blur(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve every picture with its own point-symmetric kernel; the border mirrors without repeating the edge pixel.

    Args:
        images: (N, C, H, W), sides of at least 1 px.
        kernels: (N, k, k) or (1, k, k) with k odd, on any device.

    Returns:
        (N, C, H, W), not clamped.
    """
    margin, height = kernels.shape[-1] // 2, images.shape[-2]
    padded, kernels = pad_by_reflection(images, margin), kernels.to(images.device)
    if len(images) > 1 or images.device.type != "cpu" or height < STRIPS * margin:
        return filter2d(padded, kernels, padding="valid")
    # a CPU convolves 8 or 16 channels as fast as the 3 of a lone picture, so the picture goes in as a batch of strips
    strip = -(-height // STRIPS)
    padded = F.pad(padded, (0, 0, 0, STRIPS * strip - height))
    strips = torch.cat([padded[..., top : top + strip + 2 * margin, :] for top in range(0, STRIPS * strip, strip)])
    blurred = filter2d(strips, kernels.expand(STRIPS, -1, -1), padding="valid")
    return torch.cat(blurred.split(1), dim=-2)[..., :height, :]


def pad_by_reflection(images: Tensor, margin: int) -> Tensor:
    """Pad all four sides by mirroring about the edge pixel, again and again where a picture is smaller than the margin.

    Args:
        images: (N, C, H, W).
        margin: pixels to add on each side.

    Returns:
        (N, C, H + 2 margin, W + 2 margin).
    """
    if margin < min(images.shape[-2:]):
        return F.pad(images, (margin,) * 4, mode="reflect")
    for dim in (-2, -1):
        last = images.shape[dim] - 1
        position = torch.arange(-margin, last + 1 + margin, device=images.device)
        # a mirrored picture repeats every 2 * last pixels; a single pixel is all there is to repeat
        index = last - (position % (2 * last) - last).abs() if last else torch.zeros_like(position)
        images = images.index_select(dim, index)
    return images
