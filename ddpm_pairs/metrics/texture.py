"""Measures of texture that compare two sets of LQ images with different content.

They use native patches, which are cropped and never resized, since resizing removes the degradation to be measured.
"""

import math
import random
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

T = TypeVar("T")

_LUMA = (0.299, 0.587, 0.114)
_HIGH_PASS_SIDE = 7
_MAD_TO_STD = 1.4826  # standard deviation over median absolute deviation, for a normal variable
_LOWEST_BIN = 2  # a Hann window spreads a line over two bins on either side, so lower bins mix with the removed mean


def native_patches(pictures: Sequence[Tensor], *, n: int, seed: int, size: int = 64) -> Tensor:
    """Cut n seeded patches, spread evenly over the images.

    Every image gets n // len(pictures) patches, and a seeded choice of images gets one more. Patches may overlap.

    Args:
        pictures: Floating-point images (3, H, W) in [0, 1], of any size.
        n: Number of patches.
        seed: Seed of the choice and of the positions.
        size: Side of a patch in pixels.

    Returns:
        Patches (n, 3, size, size), in the order of the images.

    Raises:
        ValueError: If there are no images, if n or size is below 1, or if an image has another shape or type or is
            smaller than a patch.
    """
    if not pictures or n < 1 or size < 1:
        raise ValueError(f"got {len(pictures)} images, {n} patches and a side of {size} px; expected 1 or more of each")
    for number, picture in enumerate(pictures):
        if picture.ndim != 3 or picture.shape[0] != 3 or not picture.is_floating_point():
            raise ValueError(
                f"image {number}: got {tuple(picture.shape)} of {picture.dtype}; "
                "expected floating-point (3, H, W) in [0, 1]"
            )
        if min(picture.shape[-2:]) < size:
            height, width = picture.shape[-2:]
            raise ValueError(
                f"image {number}: got {width}x{height} px; expected {size} px or more per side; "
                "remove it or use smaller patches"
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
    """Estimate chroma noise: the robust standard deviation of high-pass Cb and Cr.

    The high-pass is a pixel minus the mean of the 7x7 window around it (inner pixels only), scaled so that white noise
    keeps its standard deviation. The standard deviation is 1.4826 times the median absolute value per patch and
    channel, which edges hardly affect; the result is its mean over patches and both channels. Dense color detail counts
    as noise, so compare sets with similar content.

    Args:
        patches: RGB (n, 3, H, W) in [0, 1], sides of at least 7 px.

    Returns:
        The noise in 8-bit units.

    Raises:
        ValueError: If the shape is different or the patches are smaller.
    """
    _check_patches(patches, _HIGH_PASS_SIDE)
    red, _, blue = patches.unbind(1)
    luma = _luminance(patches)
    chroma = torch.stack(((blue - luma) / (2 * (1 - _LUMA[2])), (red - luma) / (2 * (1 - _LUMA[0]))), dim=1)
    return _high_pass_spread(chroma)


def luminance_noise(patches: Tensor) -> float:
    """Estimate luminance noise as ``chroma_noise`` does for color; fine texture counts as noise.

    Args:
        patches: RGB (n, 3, H, W) in [0, 1], sides of at least 7 px.

    Returns:
        The noise in 8-bit units.

    Raises:
        ValueError: If the shape is different or the patches are smaller.
    """
    _check_patches(patches, _HIGH_PASS_SIDE)
    return _high_pass_spread(_luminance(patches).unsqueeze(1))


def band_power(patches: Tensor) -> Tensor:
    """Compute the mean luminance power per octave of radial frequency.

    A patch minus its window-weighted mean is multiplied by a Hann window, and its periodogram is divided by the energy
    of the window, so white noise of variance v has power v in every band. Bands are (1/4, 1/2], (1/8, 1/4], ... cycles
    per pixel; corners beyond 1/2 belong to none. The lowest band starts at two bins, below which the window mixes
    frequencies with the mean.

    Args:
        patches: RGB (n, 3, S, S) in [0, 1], S at least 8 px.

    Returns:
        Power per pixel in squared 8-bit units, float64 (bands,), the top octave last; log2(S) - 2 bands, rounded down.

    Raises:
        ValueError: If the shape is different, or the patches are not square or are smaller.
    """
    _check_patches(patches, 8)
    side = patches.shape[-1]
    if patches.shape[-2] != side:
        raise ValueError(f"got patches of {side}x{patches.shape[-2]} px; expected square patches")
    luma = _luminance(patches).double() * 255
    ramp = torch.hann_window(side, dtype=torch.float64, device=patches.device)
    window = ramp[:, None] * ramp[None, :]
    centered = luma - (luma * window).sum(dim=(-2, -1), keepdim=True) / window.sum()
    power = torch.fft.fft2(centered * window).abs().square().mean(dim=0) / window.square().sum()
    frequency = torch.fft.fftfreq(side, dtype=torch.float64, device=patches.device)
    radius = torch.hypot(frequency[:, None], frequency[None, :])
    bands = math.floor(math.log2(side / (2 * _LOWEST_BIN)))
    tops = [0.5 / 2**octave for octave in reversed(range(bands))]
    return torch.stack([power[(radius > top / 2) & (radius <= top)].mean() for top in tops])


def band_names(bands: int) -> list[str]:
    """Limits of the octaves of ``band_power`` in cycles per pixel, the finest last: ..., 1/8-1/4, 1/4-1/2."""
    return [f"1/{2 ** (octave + 1)}-1/{2**octave}" for octave in range(bands, 0, -1)]


def power_gap_db(power: Tensor, reference: Tensor) -> Tensor:
    """Return 10 log10(power / reference) per band: how much more power a set has than a reference, in dB."""
    return 10 * torch.log10(power / reference)


def _high_pass_spread(planes: Tensor) -> float:
    """Return the robust standard deviation of high-pass planes (n, K, H, W), averaged, in 8-bit units."""
    margin = _HIGH_PASS_SIDE // 2
    high = planes[..., margin:-margin, margin:-margin] - F.avg_pool2d(planes, _HIGH_PASS_SIDE, stride=1)
    white_noise_gain = math.sqrt(1 - _HIGH_PASS_SIDE**-2)
    spread = high.flatten(2).abs().median(dim=-1).values * _MAD_TO_STD / white_noise_gain
    return float(spread.double().mean() * 255)


def _luminance(patches: Tensor) -> Tensor:
    red, green, blue = patches.unbind(1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _check_patches(patches: Tensor, least: int) -> None:
    if patches.ndim != 4 or patches.shape[1] != 3 or not len(patches) or min(patches.shape[-2:]) < least:
        raise ValueError(
            f"got patches of shape {tuple(patches.shape)}; expected (n, 3, H, W) with sides of at least {least} px"
        )
