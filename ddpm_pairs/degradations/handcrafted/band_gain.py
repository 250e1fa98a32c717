"""A filter with given gains in bands of frequency, of luminance and of colour apart."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.noise import luminance
from ddpm_pairs.degradations.ops.resize import resize_bicubic
from ddpm_pairs.devices import to_device
from ddpm_pairs.errors import UserError

SIDE = 11  # px of a kernel
GRID = 3 * SIDE  # px of the grid on which a kernel is found from its spectrum
HIGHEST = 4.0


class BandGain:
    """Blur or sharpen by a spectrum, at the size of LQ: an operation of `Chain`.

    A picture that is not of the size of LQ is first resized to it (bicubic, antialiased). Its luminance Y, and R - Y,
    G - Y and B - Y, are then convolved with an isotropic kernel of 11 px each. `ddpm-pairs calibrate` finds the gains.

    Args:
        luma: Gains of Y in equal bands that cover 0 to 1/2 cycle an LQ pixel, lowest first. They hold at the centres of
            the bands, with straight lines between; the mean of a picture stays as it is.
        chroma: Gains of R - Y, G - Y and B - Y, likewise.

    Raises:
        UserError: without gains, or for gains outside 0 to 4.
    """

    def __init__(self, luma: Sequence[float], chroma: Sequence[float]) -> None:
        self.luma, self.chroma = list(luma), list(chroma)
        for option, gains in (("luma", self.luma), ("chroma", self.chroma)):
            if not gains or not all(0 <= gain <= HIGHEST for gain in gains):
                raise UserError(f"BandGain got {option} {gains}: give one gain a band, each from 0 to {HIGHEST:g}")
        self._kernels = torch.stack([_kernel(self.luma), _kernel(self.chroma)])

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Nothing is random: no parameters, and the generator is left as it is."""
        return {}

    def apply(self, images: Tensor, parameters: list[dict[str, Any]], lq_size: tuple[int, int]) -> Tensor:
        """Filter (N, 3, H, W); gives (N, 3, *lq_size), clamped to [0, 1]."""
        if tuple(images.shape[-2:]) != tuple(lq_size):
            images = resize_bicubic(images, lq_size)
        luma_kernel, chroma_kernel = to_device(self._kernels, images.device).split(1)
        gray = luminance(images)
        return (blur(gray, luma_kernel) + blur(images - gray, chroma_kernel)).clamp(0, 1)


def _kernel(gains: list[float]) -> Tensor:
    """(SIDE, SIDE) float32 whose spectrum comes near the gains; sums to 1."""
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
