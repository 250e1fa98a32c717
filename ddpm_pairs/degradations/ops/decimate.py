"""Keeping every step-th pixel of a blurred picture, with LQ in place."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.devices import to_device
from ddpm_pairs.images.pixels import pad_by_reflection

KERNEL_SIDE = 25


def decimate(images: Tensor, sigma: float, shift: float, step: int) -> Tensor:
    """Blur with a shifted Gaussian and keep the pixels 0, step, 2 step, ...

    The pixel kept lies (step - 1) / 2 px up and left of the middle of the cell of step x step pixels that it stands
    for. With that number for `shift` the kernel looks just as far down and right, and nothing moves. Sides must be
    multiples of `step`, else the last cell is cut and the picture stretched by what follows.

    Args:
        images: (N, C, H, W).
        sigma: standard deviation of the Gaussian in pixels.
        shift: pixels by which the kernel's centre lies to the right and below.
        step: distance of the pixels kept.

    Returns:
        (N, C, H / step, W / step), rounded up.
    """
    line = to_device(shifted_gaussian(sigma, shift, KERNEL_SIDE).float(), images.device)
    planes = pad_by_reflection(images, KERNEL_SIDE // 2).flatten(0, 1).unsqueeze(1)
    # a shifted Gaussian is a product of two lines, and only the pixels that are kept are computed
    planes = F.conv2d(planes, line.view(1, 1, -1, 1), stride=(step, 1))
    planes = F.conv2d(planes, line.view(1, 1, 1, -1), stride=(1, step))
    return planes.view(*images.shape[:2], *planes.shape[-2:])


def shifted_gaussian(sigma: float, shift: float, side: int) -> Tensor:
    """A sampled Gaussian moved by linear interpolation between its samples, as BSRGAN's released code moves it.

    Args:
        sigma: standard deviation in pixels, at least 0.1.
        shift: pixels towards higher indices; beyond its ends the sampled Gaussian goes on with its last value.
        side: odd number of samples.

    Returns:
        (side,) float64 of sum 1.
    """
    radius = side // 2
    offsets = torch.arange(side, dtype=torch.float64) - radius
    gaussian = torch.exp(-((offsets / sigma) ** 2) / 2)
    position = (offsets - shift).clamp(-radius, radius) + radius
    below = position.floor().long().clamp(max=side - 2)
    line = torch.lerp(gaussian[below], gaussian[below + 1], position - below)
    return line / line.sum()
