"""Resizing to a named size.

Only sizes are given, never factors: a factor whose product is no whole number loses up to a pixel on one side and so
moves the content against HQ.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.devices import to_device

MODES = ("area", "bilinear", "bicubic")


def scaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(height, width) times a factor, rounded down, at least 1 px."""
    height, width = size
    return max(1, int(height * factor)), max(1, int(width * factor))


def resize(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize as OpenCV does with INTER_AREA, INTER_LINEAR and INTER_CUBIC.

    Args:
        images: (N, C, H, W).
        size: (height, width) to come out.
        mode: `area` (exact, see `resize_area`), `bilinear` or `bicubic` (a = -0.75), the last two without antialiasing.

    Returns:
        (N, C, *size); bicubic may overshoot [0, 1].

    Raises:
        ValueError: for an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"resize mode {mode!r} is unknown: give one of {', '.join(MODES)}")
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    if mode == "area":
        return resize_area(images, size)
    return F.interpolate(images, size=size, mode=mode, align_corners=False)


def resize_bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with the antialiased cubic (a = -0.5, stretched when shrinking), the one called "MATLAB bicubic".

    Args:
        images: (N, C, H, W).
        size: (height, width) to come out.

    Returns:
        (N, C, *size); may overshoot [0, 1].
    """
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)


def resize_area(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Average over the exact area that a pixel of the result covers, whole pixels and fractions.

    That is OpenCV's INTER_AREA: when shrinking by definition, and when enlarging too, where its linear variant weighs
    the two pixels that a smaller pixel straddles by their share. (Where one side shrinks and the other grows, OpenCV
    uses that variant for both; here each side is averaged exactly.) torch's `area` averages whole pixels only; where
    the sizes are nearly in a simple ratio, that moves content by up to half a pixel, one way on the left and the other
    way on the right, so `area` is exact for the model that was written with torch's, too.

    Rows are gathered once per pixel that a cell touches and added up: on a CPU several times faster than a product with
    a matrix of weights, and the weights are single precision on every device.

    Args:
        images: (N, C, H, W).
        size: (height, width) to come out.

    Returns:
        (N, C, *size).
    """
    for length in size:
        # rows first, then columns as rows of the transposed picture: whole rows are gathered quickest
        images = _average_rows(images, length).mT.contiguous()
    return images


def _average_rows(images: Tensor, length: int) -> Tensor:
    before = images.shape[-2]
    if length == before:
        return images
    # in units of 1 / length of a row everything is whole: row i covers [i * length, (i + 1) * length]
    taps = -(-before // length) + 1
    start = torch.arange(length) * before
    rows = start // length + torch.arange(taps).view(-1, 1)
    cover = torch.minimum(start + before, (rows + 1) * length) - torch.maximum(start, rows * length)
    rows = to_device(rows.clamp(max=before - 1), images.device)
    weights = to_device(cover.clamp(min=0) / before, images.device).unsqueeze(-1)
    averaged = images.index_select(-2, rows[0]).mul_(weights[0])
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        averaged.addcmul_(images.index_select(-2, row), weight)
    return averaged
