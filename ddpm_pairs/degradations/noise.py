"""Noise fields from recorded seeds, one picture at a time."""

from typing import Any

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in luminance (ITU-R BT.601)."""


def luminance(images: Tensor) -> Tensor:
    """Luminance of (..., 3, H, W) RGB as (..., 1, H, W)."""
    red, green, blue = images.unbind(-3)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(-3)


def add_noise(image: Tensor, parameters: dict[str, Any]) -> Tensor:
    """Add the noise that `parameters` describe and clamp to [0, 1].

    Args:
        image: (1, 3, H, W); may overshoot [0, 1].
        parameters: `kind` (`gaussian` or `poisson`), `level` (Gaussian: standard deviation in 8-bit units; Poisson:
            factor on the noise), `gray` (one field for the three channels) and `noise_seed`.

    Returns:
        (1, 3, H, W) in [0, 1].

    Raises:
        ValueError: for an unknown kind.
    """
    # the generator lives where the picture is: nothing is copied between devices, and a seed means one field per kind
    # of device
    generator = torch.Generator(image.device).manual_seed(parameters["noise_seed"])
    if parameters["kind"] == "gaussian":
        noise = gaussian_noise(image, parameters["level"], parameters["gray"], generator)
    elif parameters["kind"] == "poisson":
        noise = poisson_noise(image, parameters["level"], parameters["gray"], generator)
    else:
        raise ValueError(f"noise of kind {parameters['kind']!r} is unknown: give gaussian or poisson")
    return (image + noise).clamp(0, 1)


def gaussian_noise(image: Tensor, sigma: float, gray: bool, generator: torch.Generator) -> Tensor:
    """White Gaussian noise of standard deviation `sigma` (8-bit units) for (1, 3, H, W); one channel if `gray`."""
    channels = 1 if gray else image.shape[1]
    shape = (1, channels, *image.shape[-2:])
    return torch.randn(shape, generator=generator, device=image.device) * (sigma / 255)


def poisson_noise(image: Tensor, factor: float, gray: bool, generator: torch.Generator) -> Tensor:
    """Shot noise whose peak count follows the number of distinct levels, as in Real-ESRGAN.

    With x the picture rounded to 8 bit (its luminance if `gray`) and V = `peak_count(x)`, the noise is (Poisson(x V) /
    V - x) * factor.

    Args:
        image: (1, 3, H, W); may overshoot [0, 1].
        factor: strength; 1 is the noise of V photons at white.
        gray: one field for the three channels.
        generator: on the picture's device.

    Returns:
        (1, 3, H, W), or (1, 1, H, W) if `gray`.
    """
    source = luminance(image) if gray else image
    levels = (source.clamp(0, 1) * 255).round()
    peak = peak_count(levels)
    rounded = levels / 255
    return (torch.poisson(rounded * peak, generator=generator) / peak - rounded) * factor


def peak_count(levels: Tensor) -> Tensor:
    """Round the number of distinct 8-bit levels up to a power of two.

    Args:
        levels: integers 0..255 of any shape and type.

    Returns:
        The power of two as a scalar tensor on the same device, so that nothing waits for it.
    """
    seen = torch.zeros(256, device=levels.device).index_fill_(0, levels.flatten().long(), 1.0)
    # counted by comparison: log2 in floating point may land just above an integer
    exponent = (seen.sum() > 2 ** torch.arange(8, device=levels.device)).sum()
    return 2.0**exponent
