"""Sharpen HQ images, as Real-ESRGAN does for its training targets."""

import torch
from torch import Tensor

from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.kernels import build_kernels

SIDE = 51
SIGMA = 8.0
"""In pixels; OpenCV's default for a Gaussian kernel of 51 px."""
WEIGHT = 0.5
THRESHOLD = 10 / 255


@torch.no_grad()
def unsharp_mask(images: Tensor) -> Tensor:
    """Sharpen edges and texture but not flat regions (Wang et al., arXiv 2107.10833, section 3.3).

    Let r be an image minus its Gaussian blur. Half of r is added to the image, weighted by a blurred mask of the pixels
    where |r| exceeds 10/255, so noise in flat regions is not amplified.

    Args:
        images: (N, 3, H, W), floating, in [0, 1], on any device.

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
