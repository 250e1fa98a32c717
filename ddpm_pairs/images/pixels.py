"""Pictures in 8 bits: rounding to them, enlarging LQ, and PSNR against HQ."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def eight_bit(pictures: Tensor) -> Tensor:
    """[0, 1] to uint8 as a picture file would have it: clamped, then rounded to the nearest level."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def enlarged(lq: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (..., 3, h, w) brought to ``size`` (height, width) bicubically (a = -0.5), in whole levels."""
    if tuple(lq.shape[-2:]) == tuple(size):
        return lq
    whole = lq if lq.ndim == 4 else lq[None]
    result = F.interpolate(whole.float(), size=tuple(size), mode="bicubic", antialias=True)
    return result.clamp_(0, 255).round_().to(torch.uint8).view(*lq.shape[:-2], *size)


def psnr_of(hq: Tensor, lq: Tensor) -> float:
    """PSNR of HQ against LQ enlarged bicubically.

    Args:
        hq: uint8 (3, H, W).
        lq: uint8 (3, h, w).

    Returns:
        dB with peak 255, infinite for equal pictures.
    """
    # whole numbers: exact in any order of summation, and half the memory of float64 where pictures are large
    error = (hq.int() - enlarged(lq, hq.shape[1:]).int()).square_().sum(dtype=torch.int64).item() / hq.numel()
    return 10 * math.log10(255**2 / error) if error else math.inf


def psnr_against_hq(hq: Tensor, lq: Tensor) -> float | None:
    """``psnr_of`` as a manifest holds it: rounded to 1e-4 dB, and ``None`` for equal images.

    Args:
        hq: uint8 (3, H, W).
        lq: uint8 (3, h, w).
    """
    psnr = psnr_of(hq, lq)
    return None if psnr == math.inf else round(psnr, 4)
