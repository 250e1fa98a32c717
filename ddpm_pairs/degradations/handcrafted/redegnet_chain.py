"""The degradation that ReDegNet applies to a face and a natural image alike (Li et al., ECCV 2022, arXiv 2210.00752).

It is a simple chain (blur, downsampling, Gaussian noise, JPEG, in this order, each of them optional) or a chain like
BSRGAN's (see ``bsrgan``), whose steps are shuffled. Both end with a resize back to the HQ grid. The ranges are those of
the released training. Where it names none, those of BSRGAN are used: two blurs, JPEG in nine of ten images, the three
kinds of noise, and the modes of resizing.

Everything random is in the parameters, so two images of equal size that are degraded with the same parameters get the
same kernels, sizes, and qualities, and the same noise fields bit for bit.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, check_batch
from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.covariance import draw_covariance
from ddpm_pairs.degradations.ops.draws import chance, choice, seed, uniform
from ddpm_pairs.degradations.ops.jpeg import jpeg
from ddpm_pairs.degradations.ops.kernels import build_kernels
from ddpm_pairs.degradations.ops.noise import add_noise
from ddpm_pairs.degradations.ops.resize import MODES, MOST_FACTOR, resize, scaled_size
from ddpm_pairs.degradations.ops.side_by_side import degrade_one_by_one
from ddpm_pairs.errors import UserError

MOST_STEPS = 6
LARGEST_KERNEL = 31

SIMPLE_STEPS = {"blur": 0.8, "down": 0.8, "noise": 0.9, "jpeg": 0.9}
"""Steps of the simple chain in their order, and their probabilities."""
SIMPLE_SIDES = tuple(range(7, LARGEST_KERNEL + 1, 2))
SIMPLE_SIGMA = (0.3, 1.3)
SIMPLE_NOISE = (3.0, 24.0)
SIMPLE_QUALITIES = range(30, 81)

SHUFFLED_STEPS = {"blur": 1.0, "second blur": 1.0, "down": 1.0, "noise": 1.0, "jpeg": 0.9}
"""Steps of the shuffled chain, and their probabilities."""
SHUFFLED_SIDES = tuple(range(5, 18, 2))
ANISOTROPIC_PROBABILITY = 0.5
ISOTROPIC_SIGMA = (0.1, 2.8)
ANISOTROPIC_SIGMA = (0.5, 8.0)
SHUFFLED_NOISE = range(1, 20)
NOISE_KINDS = {"color": 0.4, "gray": 0.4, "correlated": 0.2}
SHUFFLED_QUALITIES = range(30, 86)
CLOSING_JPEG_PROBABILITY = 0.5


class ReDegNetChain(BuiltIn):
    """Degrade with ReDegNet's simple or shuffled chain, and resize back to the HQ grid.

    Args:
        factor: Range of the factor by which images are downsampled, uniform, from 1.
        simple: Share of images with the simple chain; 0 always uses the shuffled one.

    Raises:
        UserError: If an argument is out of range.
    """

    name = "redegnet_chain"
    scale = 1

    def __init__(self, factor: tuple[float, float] = (2.0, 6.0), simple: float = 0.2) -> None:
        low, high = factor
        if not 1 <= low <= high <= MOST_FACTOR:
            raise UserError(f"{self.name} factor: got [{low}, {high}]; expected [low, high], 1 <= low <= high <= 16")
        if not 0 <= simple <= 1:
            raise UserError(f"{self.name} simple: got {simple}; expected a share from 0 to 1")
        self.factor, self.simple = (float(low), float(high)), float(simple)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the parameters of one image.

        Args:
            generator: A CPU generator used for this image only.

        Returns:
            ``operations``: the steps in their order, each with its name under ``operation``: ``blur``, ``down`` (a
            ``resize`` by a factor), ``noise``, and ``jpeg``.
        """
        if chance(generator, self.simple):
            steps = [step for step, probability in SIMPLE_STEPS.items() if chance(generator, probability)]
            return {"operations": [self._draw_simple(step, generator) for step in steps]}
        names = tuple(SHUFFLED_STEPS)
        order = [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]
        steps = [step for step in order if chance(generator, SHUFFLED_STEPS[step])]
        if chance(generator, CLOSING_JPEG_PROBABILITY):
            steps.append("jpeg")
        return {"operations": [self._draw_shuffled(step, generator) for step in steps]}

    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
        """
        check_batch(self.name, hq, parameters, self.scale)
        if any(len(entry["operations"]) > MOST_STEPS for entry in parameters):
            raise ValueError(f"operations: expected no more than {MOST_STEPS}")
        return degrade_one_by_one(_degrade, hq, parameters)

    def _draw_simple(self, step: str, generator: torch.Generator) -> dict[str, Any]:
        if step == "blur":
            return _isotropic(choice(generator, SIMPLE_SIDES), uniform(generator, *SIMPLE_SIGMA))
        if step == "down":
            return self._draw_down(generator)
        if step == "noise":
            return _white_noise(uniform(generator, *SIMPLE_NOISE), False, generator)
        return {"operation": "jpeg", "quality": choice(generator, SIMPLE_QUALITIES)}

    def _draw_shuffled(self, step: str, generator: torch.Generator) -> dict[str, Any]:
        if step == "down":
            return self._draw_down(generator)
        if step == "noise":
            return _draw_shuffled_noise(generator)
        if step == "jpeg":
            return {"operation": "jpeg", "quality": choice(generator, SHUFFLED_QUALITIES)}
        side = choice(generator, SHUFFLED_SIDES)
        if not chance(generator, ANISOTROPIC_PROBABILITY):
            return _isotropic(side, uniform(generator, *ISOTROPIC_SIGMA))
        sigma_x, sigma_y = (uniform(generator, *ANISOTROPIC_SIGMA) for _ in "xy")
        kernel = {"kind": "aniso", "side": side, "sigma_x": sigma_x, "sigma_y": sigma_y}
        return {"operation": "blur", "blur": kernel | {"angle": uniform(generator, 0, math.pi)}}

    def _draw_down(self, generator: torch.Generator) -> dict[str, Any]:
        resizing = {"factor": 1 / uniform(generator, *self.factor), "mode": choice(generator, MODES)}
        return {"operation": "down", "resize": resizing}


def _isotropic(side: int, sigma: float) -> dict[str, Any]:
    kernel = {"kind": "iso", "side": side, "sigma_x": sigma, "sigma_y": sigma, "angle": 0.0}
    return {"operation": "blur", "blur": kernel}


def _draw_shuffled_noise(generator: torch.Generator) -> dict[str, Any]:
    level = choice(generator, SHUFFLED_NOISE)
    kind = choice(generator, tuple(NOISE_KINDS), tuple(NOISE_KINDS.values()))
    if kind != "correlated":
        return _white_noise(level, kind == "gray", generator)
    covariance = draw_covariance(generator, SHUFFLED_NOISE[-1])  # always at the highest level, as in BSRGAN
    noise = {"kind": "correlated", "covariance": covariance, "noise_seed": seed(generator)}
    return {"operation": "noise", "noise": noise}


def _white_noise(level: float, gray: bool, generator: torch.Generator) -> dict[str, Any]:
    noise = {"kind": "gaussian", "level": level, "gray": gray, "noise_seed": seed(generator)}
    return {"operation": "noise", "noise": noise}


def _degrade(image: Tensor, parameters: dict[str, Any]) -> Tensor:
    """Degrade one image (1, 3, H, W)."""
    size = tuple(image.shape[-2:])
    for step in parameters["operations"]:
        match step["operation"]:
            case "blur":
                side = min(step["blur"]["side"], LARGEST_KERNEL)
                image = blur(image, build_kernels([step["blur"]], side)).clamp(0, 1)
            case "down":
                factor, mode = step["resize"]["factor"], step["resize"]["mode"]
                image = resize(image, scaled_size(tuple(image.shape[-2:]), factor), mode).clamp(0, 1)
            case "noise":
                image = add_noise(image, step["noise"])
            case "jpeg":
                image = jpeg(image, [step["quality"]])
    return resize(image, size, "bilinear")
