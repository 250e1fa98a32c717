"""Resizing to a named size.

Only sizes are given, never factors: a factor whose product is no whole number loses up to a pixel on one side and so
moves the content against HQ.
"""

import torch.nn.functional as F
from torch import Tensor

MODES = ("area", "bilinear", "bicubic")


def resize(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize without antialiasing, as Real-ESRGAN does.

    Args:
        images: (N, C, H, W).
        size: (height, width) to come out.
        mode: `area` (adaptive average), `bilinear` or `bicubic` (a = -0.75).

    Returns:
        (N, C, *size); bicubic may overshoot [0, 1].

    Raises:
        ValueError: for an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"resize mode {mode!r} is unknown: give one of {', '.join(MODES)}")
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode=mode, align_corners=None if mode == "area" else False)


def resize_bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with the antialiased cubic (a = -0.5, stretched when shrinking), the one called "MATLAB bicubic".

    Args:
        images: (N, C, H, W).
        size: (height, width) to come out.

    Returns:
        (N, C, *size); may overshoot [0, 1].
    """
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)
