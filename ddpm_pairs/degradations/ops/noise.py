"""Noise fields from recorded seeds, one image at a time."""

from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.ops.covariance import Matrix, square_root
from ddpm_pairs.degradations.ops.poisson import poisson_counts
from ddpm_pairs.tensors import to_device

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in the luminance (ITU-R BT.601)."""


def luminance(images: Tensor) -> Tensor:
    """Luminance (..., 1, H, W) of RGB (..., 3, H, W)."""
    red, green, blue = images.unbind(-3)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(-3)


def add_noise(image: Tensor, parameters: dict[str, Any]) -> Tensor:
    """Add the noise that ``parameters`` describe and clamp to [0, 1].

    Args:
        image: (1, 3, H, W); values may be outside [0, 1].
        parameters: ``kind`` (``gaussian``, ``poisson`` or ``correlated``) and ``noise_seed``. Gaussian and Poisson
            noise also have ``level`` (Gaussian: standard deviation in 8-bit units; Poisson: factor on the noise) and
            ``gray`` (the same noise in all three channels); correlated noise has ``covariance``.

    Returns:
        (1, 3, H, W) in [0, 1].

    Raises:
        ValueError: If the kind is unknown.
    """
    # The generator is on the image's device, so that nothing is copied between devices. The noise of a seed therefore
    # depends on the type of device.
    generator = torch.Generator(image.device).manual_seed(parameters["noise_seed"])
    if parameters["kind"] == "gaussian":
        noise = gaussian_noise(image, parameters["level"], parameters["gray"], generator)
    elif parameters["kind"] == "poisson":
        noise = poisson_noise(image, parameters["level"], parameters["gray"], generator)
    elif parameters["kind"] == "correlated":
        noise = correlated_noise(image, parameters["covariance"], generator)
    else:
        raise ValueError(f"noise kind: got {parameters['kind']!r}; expected gaussian, poisson or correlated")
    return (image + noise).clamp_(0, 1)


def gaussian_noise(image: Tensor, sigma: float, gray: bool, generator: torch.Generator) -> Tensor:
    """White Gaussian noise of standard deviation ``sigma`` (8-bit units) for (1, 3, H, W); one channel if ``gray``."""
    channels = 1 if gray else image.shape[1]
    shape = (1, channels, *image.shape[-2:])
    return torch.randn(shape, generator=generator, device=image.device).mul_(sigma / 255)


def correlated_noise(image: Tensor, covariance: Matrix, generator: torch.Generator) -> Tensor:
    """Gaussian noise with correlated channels, independent from pixel to pixel.

    Args:
        image: (1, 3, H, W).
        covariance: 3x3 covariance of the channels in [0, 1] units, positive semidefinite.
        generator: A generator on the image's device.

    Returns:
        (1, 3, H, W).
    """
    root = to_device(torch.tensor(square_root(covariance), dtype=torch.float32), image.device)
    white = torch.randn(image.shape, generator=generator, device=image.device)
    return torch.matmul(root, white.flatten(2)).view_as(white)


def poisson_noise(image: Tensor, factor: float, gray: bool, generator: torch.Generator) -> Tensor:
    """Shot noise whose peak count follows from the number of distinct levels, as in Real-ESRGAN.

    With x the image rounded to 8 bits (its luminance if ``gray``) and V = ``peak_count(x)``, the noise is
    (Poisson(x V) / V - x) * factor.

    Args:
        image: (1, 3, H, W); values may be outside [0, 1].
        factor: Strength; 1 is the noise of V photons at white.
        gray: Use the same noise for all three channels.
        generator: A generator on the image's device.

    Returns:
        (1, 3, H, W), or (1, 1, H, W) if ``gray``.
    """
    source = luminance(image) if gray else image
    levels = source.clamp(0, 1).mul_(255).round_()
    peak = peak_count(levels)
    if levels.device.type == "cpu":
        counts = poisson_counts(levels, int(peak), generator)
    else:
        counts = torch.poisson(levels * (peak / 255), generator=generator)
    return counts.div_(peak).sub_(levels.div_(255)).mul_(factor)


def peak_count(levels: Tensor) -> Tensor:
    """Round the number of distinct 8-bit levels up to a power of two.

    Args:
        levels: Integers 0..255 of any shape and type.

    Returns:
        The power of two as a scalar tensor on the same device, which avoids a synchronization.
    """
    seen = torch.zeros(256, device=levels.device).index_fill_(0, levels.flatten().long(), 1.0)
    # computed by comparison, because a floating-point log2 may end up just above an integer
    exponent = (seen.sum() > 2 ** torch.arange(8, device=levels.device)).sum()
    return 2.0**exponent
