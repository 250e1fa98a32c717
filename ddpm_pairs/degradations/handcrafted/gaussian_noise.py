"""White Gaussian noise of an unknown level, the degradation of blind denoising."""

from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, check_batch
from ddpm_pairs.degradations.ops.draws import seed, uniform
from ddpm_pairs.degradations.ops.noise import add_noise
from ddpm_pairs.degradations.ops.side_by_side import degrade_one_by_one
from ddpm_pairs.errors import UserError


class GaussianNoise(BuiltIn):
    """Add white Gaussian noise whose level is drawn per image, independently for each channel.

    With the default range, these are the synthetic images of Noise-DA's denoising (arXiv 2406.18516), except that LQ is
    clipped to [0, 1] and rounded to 8 bits, as every LQ image of this package and every image file is. The authors do
    neither: their noise stays symmetric in black and white areas, where ours is cut off at the limits.

    Args:
        sigma: Smallest and largest standard deviation, in 8-bit units.

    Raises:
        UserError: If the range is not increasing from 0 or more.
    """

    name = "gaussian_noise"
    scale = 1

    def __init__(self, sigma: tuple[float, float] = (0.0, 75.0)) -> None:
        if not 0 <= sigma[0] <= sigma[1] <= 255:
            raise UserError(f"{self.name} sigma: got {list(sigma)}; expected two numbers from 0 to 255 in order")
        self.sigma = tuple(sigma)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw ``noise``: its ``kind``, ``level`` in 8-bit units, ``gray`` (false), and ``noise_seed``."""
        level = uniform(generator, *self.sigma)
        return {"noise": {"kind": "gaussian", "level": level, "gray": False, "noise_seed": seed(generator)}}

    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
        """
        check_batch(self.name, hq, parameters, self.scale)
        return degrade_one_by_one(lambda image, entry: add_noise(image, entry["noise"]), hq, parameters)
