"""Measures of texture that compare two sets of LQ pictures whose contents differ.

They are taken on native patches, which are cropped and never resized: resizing removes the degradation that is to be
measured.
"""

import math
import random
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.errors import UserError

T = TypeVar("T")

_LUMA = (0.299, 0.587, 0.114)
_HIGH_PASS_SIDE = 7
_MAD_TO_STD = 1.4826  # standard deviation over median absolute deviation of a normal variable
_LOWEST_BIN = 2  # a Hann window smears a line over two bins on either side, so lower ones mix with the removed mean


def native_patches(pictures: Sequence[Tensor], *, n: int, seed: int, size: int = 64) -> Tensor:
    """Cut n seeded patches, equally spread over the pictures.

    Every picture gives n // len(pictures) patches and a seeded choice of them one more. Patches of one picture may
    overlap.

    Args:
        pictures: (3, H, W) floating tensors in [0, 1], of any sizes.
        n: number of patches.
        seed: seed of the choice and of the places.
        size: side of a patch in pixels.

    Returns:
        (n, 3, size, size), in the order of the pictures.

    Raises:
        UserError: without pictures, with n or size below 1, or when a picture is of another shape or type, or smaller
            than a patch.
    """
    if not pictures or n < 1 or size < 1:
        raise UserError(f"got {len(pictures)} pictures for {n} patches of {size} px: give at least one of each")
    for number, picture in enumerate(pictures):
        if picture.ndim != 3 or picture.shape[0] != 3 or not picture.is_floating_point():
            raise UserError(
                f"picture {number} is {tuple(picture.shape)} of {picture.dtype}: give floating (3, H, W) in [0, 1]"
            )
        if min(picture.shape[-2:]) < size:
            height, width = picture.shape[-2:]
            raise UserError(
                f"picture {number} is {width}x{height} px, smaller than a patch of {size} px: "
                "leave it out or take smaller patches"
            )
    generator = torch.Generator().manual_seed(seed)
    counts = torch.full((len(pictures),), n // len(pictures))
    counts[torch.randperm(len(pictures), generator=generator)[: n % len(pictures)]] += 1
    patches = []
    for picture, count in zip(pictures, counts.tolist(), strict=True):
        for _ in range(count):
            top, left = (int(torch.randint(side - size + 1, (), generator=generator)) for side in picture.shape[-2:])
            patches.append(picture[:, top : top + size, left : left + size])
    return torch.stack(patches)


def halves(images: Sequence[T], seed: int) -> list[list[T]]:
    """Split images into two disjoint random halves of equal size.

    Args:
        images: Images in any form.
        seed: Decides which image goes into which half.

    Returns:
        The halves (an odd image is left out), or nothing for fewer than two images.
    """
    if len(images) < 2:
        return []
    order = list(range(len(images)))
    random.Random(seed).shuffle(order)
    middle = len(order) // 2
    return [[images[i] for i in part] for part in (order[:middle], order[middle : 2 * middle])]


def chroma_noise(patches: Tensor) -> float:
    """Strength of chroma noise: the robust standard deviation of high-pass Cb and Cr.

    The high-pass is a pixel minus the mean of the 7x7 window around it (inner pixels only), scaled so that white noise
    keeps its standard deviation. The standard deviation is 1.4826 times the median absolute value per patch and
    channel, which edges hardly move; the result is its mean over patches and the two channels. Dense colour detail
    counts as noise: compare sets of like content.

    Args:
        patches: (n, 3, H, W) RGB in [0, 1], sides of at least 7 px.

    Returns:
        The noise in 8-bit units.

    Raises:
        UserError: for another shape or smaller patches.
    """
    _check_patches(patches, _HIGH_PASS_SIDE)
    red, _, blue = patches.unbind(1)
    luma = _luminance(patches)
    chroma = torch.stack(((blue - luma) / (2 * (1 - _LUMA[2])), (red - luma) / (2 * (1 - _LUMA[0]))), dim=1)
    margin = _HIGH_PASS_SIDE // 2
    high = chroma[..., margin:-margin, margin:-margin] - F.avg_pool2d(chroma, _HIGH_PASS_SIDE, stride=1)
    white_noise_gain = math.sqrt(1 - _HIGH_PASS_SIDE**-2)
    spread = high.flatten(2).abs().median(dim=-1).values * _MAD_TO_STD / white_noise_gain
    return float(spread.double().mean() * 255)


def band_power(patches: Tensor) -> Tensor:
    """Mean luminance power in octaves of radial frequency.

    A patch less its (window-weighted) mean is multiplied by a Hann window; its periodogram is divided by the window's
    energy, so that white noise of variance v has power v in every band. Bands are (1/4, 1/2], (1/8, 1/4], ... cycles a
    pixel; corners beyond 1/2 belong to none, and the lowest band starts at two bins, below which the window mixes
    frequencies with the mean.

    Args:
        patches: (n, 3, S, S) RGB in [0, 1], S at least 8 px.

    Returns:
        (bands,) float64 power a pixel in squared 8-bit units, the top octave last; log2(S) - 2 bands, rounded down.

    Raises:
        UserError: for another shape, patches that are not square, or smaller ones.
    """
    _check_patches(patches, 8)
    side = patches.shape[-1]
    if patches.shape[-2] != side:
        raise UserError(f"patches are {side}x{patches.shape[-2]} px: give square ones")
    luma = _luminance(patches).double() * 255
    ramp = torch.hann_window(side, dtype=torch.float64, device=patches.device)
    window = ramp[:, None] * ramp[None, :]
    centred = luma - (luma * window).sum(dim=(-2, -1), keepdim=True) / window.sum()
    power = torch.fft.fft2(centred * window).abs().square().mean(dim=0) / window.square().sum()
    frequency = torch.fft.fftfreq(side, dtype=torch.float64, device=patches.device)
    radius = torch.hypot(frequency[:, None], frequency[None, :])
    bands = math.floor(math.log2(side / (2 * _LOWEST_BIN)))
    tops = [0.5 / 2**octave for octave in reversed(range(bands))]
    return torch.stack([power[(radius > top / 2) & (radius <= top)].mean() for top in tops])


def band_names(bands: int) -> list[str]:
    """Limits of the octaves of ``band_power`` in cycles per pixel, the finest last: ..., 1/8-1/4, 1/4-1/2."""
    return [f"1/{2 ** (octave + 1)}-1/{2**octave}" for octave in range(bands, 0, -1)]


def power_gap_db(power: Tensor, reference: Tensor) -> Tensor:
    """How much more power a set has than a reference: 10 log10(power / reference), in dB, band by band."""
    return 10 * torch.log10(power / reference)


def _luminance(patches: Tensor) -> Tensor:
    red, green, blue = patches.unbind(1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _check_patches(patches: Tensor, least: int) -> None:
    if patches.ndim != 4 or patches.shape[1] != 3 or not len(patches) or min(patches.shape[-2:]) < least:
        raise UserError(f"patches are {tuple(patches.shape)}: give (n, 3, H, W) with sides of at least {least} px")
