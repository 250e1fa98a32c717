"""Resize images to an explicit output size.

Sizes are used instead of factors, because a factor that does not give an integer size loses up to a pixel on one side
and shifts the content relative to HQ.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.tensors import to_device

MODES = ("area", "bilinear", "bicubic")


MOST_FACTOR = 16.0
"""Largest enlargement, so that no config and no manifest line exhausts the memory."""


def scaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Multiply (height, width) by a factor and round down; the result is at least 1 px per side.

    Raises:
        ValueError: If the factor is larger than ``MOST_FACTOR``.
    """
    height, width = size
    if not factor <= MOST_FACTOR:
        raise ValueError(f"resize factor: got {factor}; expected at most {MOST_FACTOR:g}")
    return max(1, int(height * factor)), max(1, int(width * factor))


def resize(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize as OpenCV does with INTER_AREA, INTER_LINEAR and INTER_CUBIC.

    Args:
        images: (N, C, H, W).
        size: (height, width) of the result.
        mode: ``area`` (exact, see ``resize_area``), ``bilinear`` or ``bicubic`` (a = -0.75); the last two without
            antialiasing.

    Returns:
        (N, C, *size); bicubic may overshoot [0, 1].

    Raises:
        ValueError: If the mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(f"resize mode: got {mode!r}; expected one of {', '.join(MODES)}")
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    if mode == "area":
        return resize_area(images, size)
    return F.interpolate(images, size=size, mode=mode, align_corners=False)


def resize_area(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Average over the exact area that each output pixel covers, including fractions of input pixels.

    This is OpenCV's INTER_AREA: by definition when downsampling, and also when upsampling, where OpenCV's linear
    variant weights the two input pixels under an output pixel by the covered area. (If one side shrinks and the other
    grows, OpenCV uses the linear variant for both; here each side is averaged exactly.) torch's ``area`` averages whole
    pixels only. If the sizes are close to a simple ratio, it shifts content by up to half a pixel, in opposite
    directions on the left and on the right. So the exact ``area`` is also used for Real-ESRGAN, which was written with
    torch's.

    Rows are gathered once per input pixel that an output pixel touches, and summed. On a CPU this is several times
    faster than a product with a weight matrix, and the weights are single precision on every device.

    Args:
        images: (N, C, H, W).
        size: (height, width) of the result.

    Returns:
        (N, C, *size).
    """
    for length in size:
        # rows first, then columns as rows of the transposed image, because gathering whole rows is fastest
        images = _average_rows(images, length).mT.contiguous()
    return images


def _average_rows(images: Tensor, length: int) -> Tensor:
    before = images.shape[-2]
    if length == before:
        return images
    # in units of 1 / length of a row, all positions are integers: row i covers [i * length, (i + 1) * length]
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
