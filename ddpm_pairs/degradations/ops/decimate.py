"""Blur and decimation that keep LQ aligned with HQ."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.images.pixels import pad_by_reflection
from ddpm_pairs.tensors import to_device

KERNEL_SIDE = 25


def decimate(images: Tensor, sigma: float, shift: float, step: int) -> Tensor:
    """Blur with a shifted Gaussian and keep the pixels 0, step, 2 step, ...

    Each kept pixel represents a cell of step x step pixels and is (step - 1) / 2 px above and to the left of the
    center of that cell. With ``shift = (step - 1) / 2`` the kernel compensates for this offset, and the content does
    not move. Sides must be multiples of ``step``; otherwise the last cell is incomplete, and a later resize to the LQ
    size stretches the image.

    Args:
        images: (N, C, H, W).
        sigma: Standard deviation of the Gaussian in pixels.
        shift: Offset of the kernel's center in pixels, both to the right and down.
        step: Distance between kept pixels.

    Returns:
        (N, C, H / step, W / step), rounded up.
    """
    line = to_device(shifted_gaussian(sigma, shift, KERNEL_SIDE).float(), images.device)
    planes = pad_by_reflection(images, KERNEL_SIDE // 2).flatten(0, 1).unsqueeze(1)
    # a shifted Gaussian is separable, and only the kept pixels are computed
    planes = F.conv2d(planes, line.view(1, 1, -1, 1), stride=(step, 1))
    planes = F.conv2d(planes, line.view(1, 1, 1, -1), stride=(1, step))
    return planes.view(*images.shape[:2], *planes.shape[-2:])


def shifted_gaussian(sigma: float, shift: float, side: int) -> Tensor:
    """Shift a sampled Gaussian by linear interpolation between its samples, as BSRGAN's released code does.

    Args:
        sigma: Standard deviation in pixels, at least 0.1.
        shift: Shift in pixels toward higher indices; beyond its ends the Gaussian is extended by its last value.
        side: Number of samples, odd.

    Returns:
        (side,) float64 that sums to 1.
    """
    radius = side // 2
    offsets = torch.arange(side, dtype=torch.float64) - radius
    gaussian = torch.exp(-((offsets / sigma) ** 2) / 2)
    position = (offsets - shift).clamp(-radius, radius) + radius
    below = position.floor().long().clamp(max=side - 2)
    line = torch.lerp(gaussian[below], gaussian[below + 1], position - below)
    return line / line.sum()
