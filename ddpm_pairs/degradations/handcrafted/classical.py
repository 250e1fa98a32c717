"""The classical degradation: blur, downsampling, Gaussian noise and JPEG, once each and in this order.

For faces, this is the recipe of GFPGAN (arXiv 2101.04061) and of GPEN's released code, which agree in every number. For
natural images, the literature agrees on the form but not on the ranges. We use the blur widths (arXiv 1712.06116) and
the antialiased bicubic downsampling of SRMD, and the noise and JPEG ranges of the face recipe.

Each face has its own size between downsampling and upsampling, so the chain runs image by image; see
``degrade_one_by_one``.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, check_batch, check_scale, lq_size
from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.color import change_colour, draw_colour
from ddpm_pairs.degradations.ops.draws import chance, choice, seed, uniform
from ddpm_pairs.degradations.ops.jpeg import jpeg
from ddpm_pairs.degradations.ops.kernels import build_kernels
from ddpm_pairs.degradations.ops.noise import add_noise
from ddpm_pairs.degradations.ops.resize import resize
from ddpm_pairs.degradations.ops.side_by_side import degrade_one_by_one
from ddpm_pairs.images.pixels import resize_bicubic

ISOTROPIC_PROBABILITY = 0.5
KERNEL_SIDE = 21
FACES_KERNEL_SIDE = 41
FACES_SIGMA = (0.1, 10.0)
NATURAL_SIGMA = (0.2, 2.0)
"""At scales 1 and 2. As in SRMD, the upper end is the scale, so it is 4 at scale 4."""
FACES_SHRINKING = (0.8, 8.0)
NOISE_SIGMA = (0.0, 20.0)
JPEG_QUALITIES = range(60, 100)


class Classical(BuiltIn):
    """Blur, downsample, add noise, and compress. The noise is colored, even on gray images.

    Args:
        scale: HQ side over LQ side: 1, 2 or 4.
        colour: Whether to apply GFPGAN's color shift, gray conversion and color jitter to LQ. A restorer trained on
            such pairs changes colors.

    Raises:
        UserError: If the scale is not 1, 2 or 4.
    """

    name = "classical"

    def __init__(self, scale: int = 4, colour: bool = False) -> None:
        self.scale, self.colour = check_scale(self.name, scale), colour

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the parameters of one image.

        Args:
            generator: A CPU generator used for this image only.

        Returns:
            ``blur``, ``resize`` (its ``mode``), ``noise``, ``quality``, and ``colour`` (``None``, or a result of
            ``ddpm_pairs.degradations.ops.color.draw_colour``).
        """
        low, high = NATURAL_SIGMA
        return {
            "blur": _draw_blur(generator, KERNEL_SIDE, low, max(high, self.scale)),
            "resize": {"mode": "bicubic"},
            **_draw_rest(generator, self.colour),
        }

    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
        """
        check_batch(self.name, hq, parameters, self.scale)
        size = lq_size(*hq.shape[-2:], self.scale)

        def chain(image: Tensor, entry: dict[str, Any], kernel: Tensor) -> Tensor:
            image = _noisy_jpeg(resize_bicubic(blur(image, kernel), size), entry)
            return image if entry["colour"] is None else change_colour(image, entry["colour"])

        return degrade_one_by_one(chain, hq, parameters, _kernels(parameters, KERNEL_SIDE))


class ClassicalFaces(BuiltIn):
    """Degrade by the recipe of GFPGAN and GPEN: blur, downsample, add noise, compress, and resize back to HQ size.

    Each image is downsampled by its own factor, 0.8 to 8, and resized back to the HQ grid, both bilinearly without
    antialiasing. The noise is colored, even on gray images.

    Args:
        colour: As in ``Classical``.
    """

    name = "classical_faces"
    scale = 1

    def __init__(self, colour: bool = False) -> None:
        self.colour = colour

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the parameters of one image.

        Args:
            generator: A CPU generator used for this image only.

        Returns:
            As ``Classical.draw``, but ``resize`` contains the ``factor`` by which the sides are divided.
        """
        return {
            "blur": _draw_blur(generator, FACES_KERNEL_SIDE, *FACES_SIGMA),
            "resize": {"factor": uniform(generator, *FACES_SHRINKING)},
            **_draw_rest(generator, self.colour),
        }

    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
        """
        check_batch(self.name, hq, parameters, self.scale)
        height, width = hq.shape[-2:]

        def chain(image: Tensor, entry: dict[str, Any], kernel: Tensor) -> Tensor:
            factor = entry["resize"]["factor"]
            small = (max(1, int(height / factor)), max(1, int(width / factor)))
            image = _noisy_jpeg(resize(blur(image, kernel), small, "bilinear"), entry)
            image = resize(image, (height, width), "bilinear")
            return image if entry["colour"] is None else change_colour(image, entry["colour"])

        return degrade_one_by_one(chain, hq, parameters, _kernels(parameters, FACES_KERNEL_SIDE))


def _kernels(parameters: list[dict[str, Any]], side: int) -> Sequence[Tensor]:
    return build_kernels([entry["blur"] for entry in parameters], side).split(1)


def _noisy_jpeg(image: Tensor, parameters: dict[str, Any]) -> Tensor:
    return jpeg(add_noise(image, parameters["noise"]), [parameters["quality"]])


def _draw_blur(generator: torch.Generator, side: int, low: float, high: float) -> dict[str, Any]:
    sigma = uniform(generator, low, high)
    shape = {"kind": "iso", "side": side, "sigma_x": sigma, "sigma_y": sigma, "angle": 0.0}
    if not chance(generator, ISOTROPIC_PROBABILITY):
        angle = uniform(generator, -math.pi, math.pi)
        shape |= {"kind": "aniso", "sigma_y": uniform(generator, low, high), "angle": angle}
    return shape


def _draw_rest(generator: torch.Generator, colour: bool) -> dict[str, Any]:
    return {
        "noise": {
            "kind": "gaussian",
            "level": uniform(generator, *NOISE_SIGMA),
            "gray": False,
            "noise_seed": seed(generator),
        },
        "quality": choice(generator, JPEG_QUALITIES),
        "colour": draw_colour(generator) if colour else None,
    }
