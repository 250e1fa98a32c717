"""Blur each image of a batch with its own kernel."""

import math

import torch
import torch.nn.functional as F
from kornia.filters import filter2d
from torch import Tensor

from ddpm_pairs.images.pixels import pad_by_reflection
from ddpm_pairs.tensors import to_device

LARGEST_DIRECT_SIDE = 11
"""Largest kernel side, in px, for direct convolution.

Larger kernels use the Fourier transform, whose time hardly depends on the kernel size. On a CPU both take the same time
at 11 px for any image size; for 512x512 images, direct convolution takes twice as long at 21 px and six times at 41 px.
"""

STRIPS = 8


def blur(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own point-symmetric kernel; borders are mirrored without repeating the edge pixel.

    On a CPU images are processed one by one, because a single image fits into the caches and a batch does not.

    Args:
        images: (N, C, H, W), sides of at least 1 px.
        kernels: (N, k, k) or (1, k, k) with k odd, on any device.

    Returns:
        (N, C, H, W), not clamped.
    """
    direct = kernels.shape[-1] <= LARGEST_DIRECT_SIDE
    if images.device.type != "cpu":
        kernels = to_device(kernels, images.device)
        return _convolve(images, kernels) if direct else _multiply_spectra(images, kernels)
    blurred = torch.empty_like(images, memory_format=torch.contiguous_format)
    rows = blurred.split(1), images.split(1), kernels.expand(len(images), -1, -1).split(1)
    for row, image, kernel in zip(*rows, strict=True):
        row.copy_(_convolve_in_strips(image, kernel) if direct else _multiply_spectra(image, kernel))
    return blurred


def _convolve(images: Tensor, kernels: Tensor) -> Tensor:
    return filter2d(pad_by_reflection(images, kernels.shape[-1] // 2), kernels, padding="valid")


def _convolve_in_strips(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve one image as a batch of strips, because a CPU convolves 8 or 16 channels as fast as 3."""
    margin, height = kernel.shape[-1] // 2, image.shape[-2]
    if height < STRIPS * margin:
        return _convolve(image, kernel)
    strip = -(-height // STRIPS)
    padded = F.pad(pad_by_reflection(image, margin), (0, 0, 0, STRIPS * strip - height))
    strips = torch.cat([padded[..., top : top + strip + 2 * margin, :] for top in range(0, STRIPS * strip, strip)])
    blurred = filter2d(strips, kernel.expand(STRIPS, -1, -1), padding="valid")
    return torch.cat(blurred.split(1), dim=-2)[..., :height, :]


def _multiply_spectra(images: Tensor, kernels: Tensor) -> Tensor:
    margin = kernels.shape[-1] // 2
    height, width = images.shape[-2:]
    size = _fast_length(height + 2 * margin), _fast_length(width + 2 * margin)
    beyond = size[0] - height - margin, size[1] - width - margin  # at least the margin, and cheaper than zeros
    if max(beyond) < min(height, width):
        padded = F.pad(images, (margin, beyond[1], margin, beyond[0]), mode="reflect")
    else:
        padded = pad_by_reflection(images, margin)
    spectra = torch.fft.rfft2(padded, s=size)
    spectra *= _kernel_spectra(kernels, size).unsqueeze(1)
    columns = torch.fft.ifft(spectra, dim=-2)[..., margin : margin + height, :]
    return torch.fft.irfft(columns, n=size[1])[..., margin : margin + width]


def _kernel_spectra(kernels: Tensor, size: tuple[int, int]) -> Tensor:
    """Spectra of (N, k, k) kernels about their center at the frequencies of ``rfft2``; symmetry makes them real."""
    margin = kernels.shape[-1] // 2
    offsets = torch.arange(-margin, margin + 1, dtype=torch.float64, device=kernels.device)

    def angles(count: int, length: int) -> Tensor:
        return torch.outer(torch.arange(count, device=kernels.device) * (2 * math.pi / length), offsets)

    y, x = angles(size[0], size[0]), angles(size[1] // 2 + 1, size[1])
    # cos(y + x) by the addition theorem, separably over rows and columns
    even = y.cos().float() @ kernels @ x.cos().float().mT
    return even.sub_(y.sin().float() @ kernels @ x.sin().float().mT)


def _fast_length(least: int) -> int:
    """The smallest product of powers of 2, 3 and 5 that is at least ``least``; Fourier transforms of it are fast."""
    length = least
    while 30**10 % length:
        length += 1
    return length
