"""Gray images, and the color augmentations that GFPGAN applies to the LQ images of faces."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation

from ddpm_pairs.degradations.ops.draws import chance, uniform
from ddpm_pairs.degradations.ops.noise import luminance

SHIFT_PROBABILITY = 0.3
SHIFT = (-20.0, 20.0)
GRAY_PROBABILITY = 0.01
JITTER_PROBABILITY = 0.3
JITTER_RANGES = {
    "brightness": (0.5, 1.5),
    "contrast": (0.5, 1.5),
    "saturation": (0.0, 1.5),
    "hue": (-0.1, 0.1),
}
ADJUST = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}


def to_gray(images: Tensor) -> Tensor:
    """Copy the luminance of RGB (..., 3, H, W) to all three channels."""
    return luminance(images).expand_as(images).contiguous()


def draw_colour(generator: torch.Generator) -> dict[str, Any]:
    """Draw the color changes of one image (``train_gfpgan_v1.yml`` of GFPGAN, arXiv 2101.04061).

    Args:
        generator: A CPU generator used for this image only.

    Returns:
        ``shift`` (``None``, or the offsets of R, G and B in 8-bit units), ``gray``, and ``jitter`` (``None``, or the
        factors of ``brightness``, ``contrast`` and ``saturation``, the rotation of ``hue`` in fractions of a circle,
        and their ``order``).
    """
    shift = [uniform(generator, *SHIFT) for _ in range(3)] if chance(generator, SHIFT_PROBABILITY) else None
    gray = chance(generator, GRAY_PROBABILITY)
    jitter = None
    if chance(generator, JITTER_PROBABILITY):
        names = tuple(JITTER_RANGES)
        order = [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]
        jitter = {"order": order, **{name: uniform(generator, *JITTER_RANGES[name]) for name in names}}
    return {"shift": shift, "gray": gray, "jitter": jitter}


def change_colour(image: Tensor, parameters: dict[str, Any]) -> Tensor:
    """Shift the channels, convert to gray, and apply color jitter, in this order, as drawn in ``parameters``.

    Args:
        image: (1, 3, H, W) in [0, 1].
        parameters: A result of ``draw_colour``.

    Returns:
        (1, 3, H, W) in [0, 1].
    """
    if parameters["shift"] is not None:
        channels = image.unbind(dim=1)
        shifted = [channel + shift / 255 for channel, shift in zip(channels, parameters["shift"], strict=True)]
        image = torch.stack(shifted, dim=1).clamp(0, 1)
    if parameters["gray"]:
        image = to_gray(image)
    if parameters["jitter"] is not None:
        for name in parameters["jitter"]["order"]:
            image = ADJUST[name](image, parameters["jitter"][name])
    return image
