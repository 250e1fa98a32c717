"""Sharpening of HQ, as Real-ESRGAN prepares its targets."""

import torch
from torch import Tensor

from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.kernels import build_kernels

SIDE = 51
SIGMA = 8.0
"""In pixels; what OpenCV takes for a Gaussian of 51 px."""
WEIGHT = 0.5
THRESHOLD = 10 / 255


@torch.no_grad()
def unsharp_mask(images: Tensor) -> Tensor:
    """Sharpen where there is something to sharpen (Wang et al., arXiv 2107.10833, section 3.3).

    With r the difference of a picture and its Gaussian blur, half of r is added, weighted by the blurred mask of the
    places where |r| is above 10 of 255, so that flat noise stays as it is.

    Args:
        images: (N, 3, H, W) float in [0, 1] on any device.

    Returns:
        (N, 3, H, W) float32 in [0, 1].
    """
    kernel = build_kernels([{"kind": "iso", "side": SIDE, "sigma_x": SIGMA, "sigma_y": SIGMA}], SIDE)
    with torch.autocast(images.device.type, enabled=False):
        images = images.float()
        residual = images - blur(images, kernel)
        mask = blur((residual.abs() > THRESHOLD).float(), kernel)
        sharp = (images + WEIGHT * residual).clamp(0, 1)
        return torch.lerp(images, sharp, mask).clamp(0, 1)
