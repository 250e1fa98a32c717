"""Noise fields from recorded seeds, one picture at a time."""

from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.ops.covariance import Matrix, square_root
from ddpm_pairs.degradations.ops.poisson import poisson_counts
from ddpm_pairs.devices import to_device

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
        parameters: `kind` (`gaussian`, `poisson` or `correlated`), `noise_seed` and, for the first two, `level`
            (Gaussian: standard deviation in 8-bit units; Poisson: factor on the noise) and `gray` (one field for the
            three channels), for the last `covariance`.

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
    elif parameters["kind"] == "correlated":
        noise = correlated_noise(image, parameters["covariance"], generator)
    else:
        raise ValueError(f"noise of kind {parameters['kind']!r} is unknown: give gaussian, poisson or correlated")
    return (image + noise).clamp_(0, 1)


def gaussian_noise(image: Tensor, sigma: float, gray: bool, generator: torch.Generator) -> Tensor:
    """White Gaussian noise of standard deviation `sigma` (8-bit units) for (1, 3, H, W); one channel if `gray`."""
    channels = 1 if gray else image.shape[1]
    shape = (1, channels, *image.shape[-2:])
    return torch.randn(shape, generator=generator, device=image.device).mul_(sigma / 255)


def correlated_noise(image: Tensor, covariance: Matrix, generator: torch.Generator) -> Tensor:
    """Gaussian noise, white over the pixels, whose channels go together.

    Args:
        image: (1, 3, H, W).
        covariance: 3x3 covariance of the channels in [0, 1] units, positive semidefinite.
        generator: on the picture's device.

    Returns:
        (1, 3, H, W).
    """
    root = to_device(torch.tensor(square_root(covariance), dtype=torch.float32), image.device)
    white = torch.randn(image.shape, generator=generator, device=image.device)
    return torch.matmul(root, white.flatten(2)).view_as(white)


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
        levels: integers 0..255 of any shape and type.

    Returns:
        The power of two as a scalar tensor on the same device, so that nothing waits for it.
    """
    seen = torch.zeros(256, device=levels.device).index_fill_(0, levels.flatten().long(), 1.0)
    # counted by comparison: log2 in floating point may land just above an integer
    exponent = (seen.sum() > 2 ** torch.arange(8, device=levels.device)).sum()
    return 2.0**exponent
