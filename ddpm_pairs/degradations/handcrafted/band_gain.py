"""A filter with given gains per frequency band, separate for luminance and color."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.noise import luminance
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import resize_bicubic
from ddpm_pairs.tensors import to_device

SIDE = 11  # side of a kernel in px
GRID = 3 * SIDE  # side in px of the grid on which a kernel is computed from its spectrum
HIGHEST = 4.0


class BandGain:
    """Blur or sharpen at LQ size with given gains per frequency band; an operation of ``Chain``.

    An image that does not have LQ size yet is first resized to it (bicubic, antialiased). Then the luminance Y is
    convolved with one isotropic kernel of 11 px, and R - Y, G - Y and B - Y with another. ``ddpm-pairs calibrate``
    finds the gains.

    Args:
        luma: Gains of Y in bands of equal width from 0 to 1/2 cycle per LQ pixel, lowest band first. Each gain applies
            at the center of its band, with linear interpolation in between. The mean of an image does not change.
        chroma: Gains of R - Y, G - Y and B - Y, in the same form.

    Raises:
        UserError: If there are no gains, or a gain is outside 0 to 4.
    """

    def __init__(self, luma: Sequence[float], chroma: Sequence[float]) -> None:
        self.luma, self.chroma = list(luma), list(chroma)
        for option, gains in (("luma", self.luma), ("chroma", self.chroma)):
            if not gains or not all(0 <= gain <= HIGHEST for gain in gains):
                raise UserError(
                    f"BandGain.{option}: got {gains}; expected one gain per band, each from 0 to {HIGHEST:g}"
                )
        self._kernels = torch.stack([_kernel(self.luma), _kernel(self.chroma)])

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Return no parameters: nothing is random, and the generator is not used."""
        return {}

    def apply(self, images: Tensor, parameters: list[dict[str, Any]], lq_size: tuple[int, int]) -> Tensor:
        """Filter (N, 3, H, W); returns (N, 3, *lq_size), clamped to [0, 1]."""
        if tuple(images.shape[-2:]) != tuple(lq_size):
            images = resize_bicubic(images, lq_size)
        luma_kernel, chroma_kernel = to_device(self._kernels, images.device).split(1)
        gray = luminance(images)
        return (blur(gray, luma_kernel) + blur(images - gray, chroma_kernel)).clamp(0, 1)


def _kernel(gains: list[float]) -> Tensor:
    """Compute a float32 kernel (SIDE, SIDE) that sums to 1 and whose spectrum approximates the gains."""
    frequency = torch.fft.fftfreq(GRID, dtype=torch.float64)
    radius = torch.hypot(frequency[:, None], frequency[None, :])
    width = 0.5 / len(gains)
    knots = torch.tensor([1.0, *gains, gains[-1]], dtype=torch.float64)
    places = torch.tensor([0.0, *((band + 0.5) * width for band in range(len(gains))), 1.0], dtype=torch.float64)
    above = torch.searchsorted(places, radius, right=True).clamp(1, len(places) - 1)
    share = (radius - places[above - 1]) / (places[above] - places[above - 1])
    response = torch.lerp(knots[above - 1], knots[above], share)
    centred = torch.fft.fftshift(torch.fft.ifft2(response).real)
    first = (GRID - SIDE) // 2
    kernel = centred[first : first + SIDE, first : first + SIDE]
    return (kernel / kernel.sum()).float()
