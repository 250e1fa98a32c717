"""Split images into low and high frequencies: by a box average, a Gaussian, or one level of the Haar wavelet."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

BOX_SIDE = 5

TAPS, SIGMA = 9, 1.5
"""Side and standard deviation in px of the Gaussian, which ends at three standard deviations."""


class Haar(NamedTuple):
    """The four bands of one level of the orthonormal Haar wavelet, each (N, C, H / 2, W / 2).

    Attributes:
        low: LL, twice the mean of each 2x2 block.
        horizontal: Differences between the rows of a block; PyWavelets calls them ``cH``.
        vertical: Differences between its columns, ``cV``.
        diagonal: Differences between its diagonals, ``cD``.
    """

    low: Tensor
    horizontal: Tensor
    vertical: Tensor
    diagonal: Tensor


def box_low(images: Tensor, side: int = BOX_SIDE) -> Tensor:
    """Average (N, C, H, W) over a square window of odd side; at the border, over the part inside the image."""
    return F.avg_pool2d(images, side, stride=1, padding=side // 2, count_include_pad=False)


def box_high(images: Tensor, side: int = BOX_SIDE) -> Tensor:
    """Return what ``box_low`` removes: the two sum to the images."""
    return images - box_low(images, side)


def gaussian_low(images: Tensor) -> Tensor:
    """Average (N, C, H, W) with a Gaussian of 9 taps per direction; the border is mirrored, so sides are 5 or more."""
    with torch.autocast(images.device.type, enabled=False):
        return gaussian_blur2d(images, (TAPS, TAPS), (SIGMA, SIGMA))


def gaussian_high(images: Tensor) -> Tensor:
    """Return what ``gaussian_low`` removes: the two sum to the images."""
    return images - gaussian_low(images)


def haar(images: Tensor) -> Haar:
    """Transform (N, C, H, W) with even sides by one level of the Haar wavelet."""
    top, bottom = images[..., 0::2, :], images[..., 1::2, :]
    a, b, c, d = top[..., 0::2], top[..., 1::2], bottom[..., 0::2], bottom[..., 1::2]
    return Haar((a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2)
