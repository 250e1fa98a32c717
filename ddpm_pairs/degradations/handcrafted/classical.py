"""The classical model: blur, downsampling, Gaussian noise and JPEG, once and in this order.

For faces it is the recipe of GFPGAN (arXiv 2101.04061) and of GPEN's released code, which agree in every number. For
natural pictures the literature has the form but no agreed ranges: blur by SRMD's widths (arXiv 1712.06116), antialiased
bicubic shrinking as SRMD's, noise and JPEG as for faces; the choice of ranges is ours.

Pictures of faces have sizes of their own between shrinking and enlarging, so the chain runs picture by picture;
`degrade_one_by_one` says why.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import check_batch, check_scale, working_lq_size
from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.color import change_colour, draw_colour
from ddpm_pairs.degradations.ops.draws import chance, choice, seed, uniform
from ddpm_pairs.degradations.ops.jpeg import jpeg
from ddpm_pairs.degradations.ops.kernels import build_kernels
from ddpm_pairs.degradations.ops.noise import add_noise
from ddpm_pairs.degradations.ops.resize import resize, resize_bicubic
from ddpm_pairs.degradations.ops.side_by_side import degrade_one_by_one

ISOTROPIC_PROBABILITY = 0.5
KERNEL_SIDE = {"faces": 41, "natural": 21}
FACES_SIGMA = (0.1, 10.0)
NATURAL_SIGMA = (0.2, 2.0)
"""At scales 1 and 2; SRMD's upper end is the scale, 4 at scale 4."""
FACES_SHRINKING = (0.8, 8.0)
NOISE_SIGMA = (0.0, 20.0)
JPEG_QUALITIES = range(60, 100)


class Classical:
    """LQ is HQ blurred, shrunk, noisy and compressed.

    With preset `faces` the picture is shrunk by a factor of its own, 0.8 to 8, and brought back to the HQ grid, both
    bilinearly without antialiasing. The noise is coloured, on gray pictures too.
    """

    name = "classical"

    def __init__(self, scale: int = 4, preset: str = "natural", colour: bool = False) -> None:
        """Choose scale and colour changes.

        Args:
            scale: HQ side over LQ side: 1, 2 or 4; 1 for `faces`.
            preset: `natural` (LQ at HQ / scale) or `faces` (LQ back on the HQ grid).
            colour: whether LQ gets GFPGAN's colour shifts, gray and colour jitter; a restorer trained on that
                recolours.

        Raises:
            UserError: for another scale or preset.
        """
        self.scale, self.preset, self.colour = check_scale(self.name, scale, preset), preset, colour

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw one picture's parameters.

        Args:
            generator: a CPU generator of this picture alone.

        Returns:
            `blur`, `resize` (`factor` by which sides are divided, or the `mode` where HQ / scale is the size), `noise`,
            `quality`, and `colour` (None, or see `ddpm_pairs.degradations.ops.color.draw_colour`).
        """
        faces = self.preset == "faces"
        return {
            "blur": self._draw_blur(generator),
            "resize": {"factor": uniform(generator, *FACES_SHRINKING)} if faces else {"mode": "bicubic"},
            "noise": {
                "kind": "gaussian",
                "level": uniform(generator, *NOISE_SIGMA),
                "gray": False,
                "noise_seed": seed(generator),
            },
            "quality": choice(generator, JPEG_QUALITIES),
            "colour": draw_colour(generator) if self.colour else None,
        }

    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see `Degradation.apply`.

        Raises:
            UserError: when shapes, type or number of parameters do not fit.
        """
        check_batch(self.name, hq, parameters, self.scale)
        kernels = build_kernels([entry["blur"] for entry in parameters], KERNEL_SIDE[self.preset])
        return degrade_one_by_one(self._degrade, hq, parameters, kernels.split(1))

    def _degrade(self, image: Tensor, parameters: dict[str, Any], kernel: Tensor) -> Tensor:
        """One picture (1, 3, H, W) to the LQ size."""
        height, width = image.shape[-2:]
        image = blur(image, kernel)
        if self.preset == "faces":
            factor = parameters["resize"]["factor"]
            image = resize(image, (max(1, int(height / factor)), max(1, int(width / factor))), "bilinear")
        else:
            image = resize_bicubic(image, working_lq_size(height, width, self.scale, self.preset))
        image = jpeg(add_noise(image, parameters["noise"]), [parameters["quality"]])
        if self.preset == "faces":
            image = resize(image, (height, width), "bilinear")
        return image if parameters["colour"] is None else change_colour(image, parameters["colour"])

    def _draw_blur(self, generator: torch.Generator) -> dict[str, Any]:
        low, high = FACES_SIGMA if self.preset == "faces" else NATURAL_SIGMA
        if self.preset == "natural":
            high = max(high, self.scale)
        sigma = uniform(generator, low, high)
        shape = {"kind": "iso", "side": KERNEL_SIDE[self.preset], "sigma_x": sigma, "sigma_y": sigma, "angle": 0.0}
        if not chance(generator, ISOTROPIC_PROBABILITY):
            angle = uniform(generator, -math.pi, math.pi)
            shape |= {"kind": "aniso", "sigma_y": uniform(generator, low, high), "angle": angle}
        return shape
