"""Blurring every picture of a batch with its own kernel."""

import torch
import torch.nn.functional as F
from kornia.filters import filter2d
from torch import Tensor

STRIPS = 8


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
