"""BSRGAN's degradation (Zhang et al., arXiv 2103.14006), with its steps in random order.

The numbers are those of the released code (``degradation_bsrgan``), which differ from the paper in places. Two blurs,
two downsamplings, noise and JPEG are applied in an order drawn per image, with the second downsampling always after the
first. A final JPEG ends the chain. The seventh shuffled step, camera noise, needs a camera model that was never
released, and was not part of the released training either.

The original resizes to explicit sizes, which keeps LQ aligned. The exception is its decimation: if the sides are not
multiples of the factor, it would stretch the image by up to three pixels. Such sides are only possible with
``OnHQGrid``, and are padded first.

Order and sizes differ between images, so the chain runs image by image; see ``degrade_one_by_one``.
"""

import math
from collections import Counter
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, check_batch, check_scale, lq_size
from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.covariance import draw_covariance
from ddpm_pairs.degradations.ops.decimate import decimate
from ddpm_pairs.degradations.ops.draws import chance, choice, seed, uniform
from ddpm_pairs.degradations.ops.jpeg import jpeg
from ddpm_pairs.degradations.ops.kernels import build_kernels
from ddpm_pairs.degradations.ops.noise import add_noise
from ddpm_pairs.degradations.ops.resize import MODES, resize, scaled_size
from ddpm_pairs.degradations.ops.side_by_side import degrade_one_by_one
from ddpm_pairs.images.pixels import resize_bicubic

STEPS = ("blur", "blur", "down", "resize", "noise", "jpeg")
HALVE_PROBABILITY = 0.25
MATLAB_PROBABILITY = 0.5
KERNEL_SIDES = tuple(range(7, 26, 2))
KERNEL_SIDE = max(KERNEL_SIDES)
ANISOTROPIC_PROBABILITY = 0.5
SMALLEST_SIGMA = 0.1
"""Equal to no blur to seven digits. The original divides by zero at a sigma of 0."""
DECIMATE_PROBABILITY = 0.25
NOISE_LEVELS = range(2, 26)
NOISE_KINDS = {"colour": 0.4, "gray": 0.4, "correlated": 0.2}
JPEG_PROBABILITY = 0.9
JPEG_QUALITIES = range(30, 96)


class BSRGAN(BuiltIn):
    """Degrade with BSRGAN's shuffled degradation, without camera noise.

    The original supports scales 2 and 4; scale 1 uses its formulas with a factor of 1.

    Args:
        scale: HQ side over LQ side: 1, 2 or 4.

    Raises:
        UserError: If the scale is not 1, 2 or 4.
    """

    name = "bsrgan"

    def __init__(self, scale: int = 4) -> None:
        self.scale = check_scale(self.name, scale)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the parameters of one image.

        Args:
            generator: A CPU generator used for this image only.

        Returns:
            ``halve``: ``None``, or the ``mode`` in which the image is halved first (a quarter of the images at scale
            4). ``operations``: the steps in their order, each with its name under ``operation``. ``quality``: that of
            the final JPEG. The operations are ``blur``; ``down``, which is either a ``resize`` by a factor or a
            Gaussian ``kernel``, offset by ``shift`` px to the right and down, followed by keeping every ``step``-th
            pixel; ``resize`` to the LQ size; ``noise``; and ``jpeg``, omitted for a tenth of the images.
        """
        factor = self.scale
        halve = None
        if factor == 4 and chance(generator, HALVE_PROBABILITY):
            halve = {"mode": "matlab" if chance(generator, MATLAB_PROBABILITY) else choice(generator, MODES)}
            factor = 2
        order = [STEPS[i] for i in torch.randperm(len(STEPS), generator=generator).tolist()]
        first, second = order.index("down"), order.index("resize")
        if first > second:
            order[first], order[second] = order[second], order[first]
        if not chance(generator, JPEG_PROBABILITY):
            order.remove("jpeg")
        operations = [{"operation": step, **_draw_operation(step, factor, generator)} for step in order]
        return {"halve": halve, "operations": operations, "quality": choice(generator, JPEG_QUALITIES)}

    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
        """
        check_batch(self.name, hq, parameters, self.scale)
        size = lq_size(*hq.shape[-2:], self.scale)
        return degrade_one_by_one(partial(_degrade, lq_size=size), hq, parameters, _kernels(parameters))

    def apply_on_hq_grid(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade and enlarge LQ bilinearly to the size of HQ; for ``OnHQGrid``."""
        height, width = hq.shape[-2:]
        size = lq_size(height, width, self.scale)
        grid = tuple(side * self.scale for side in size)

        def chain(image: Tensor, entry: dict[str, Any], kernels: list[Tensor]) -> Tensor:
            image = F.pad(image, (0, grid[1] - width, 0, grid[0] - height), mode="replicate")
            return resize(_degrade(image, entry, kernels, size), grid, "bilinear")[..., :height, :width]

        return degrade_one_by_one(chain, hq, parameters, _kernels(parameters))


def _draw_operation(step: str, factor: int, generator: torch.Generator) -> dict[str, Any]:
    """Draw the parameters of one step; ``factor`` is the total downsampling factor of the shuffled steps."""
    if step == "blur":
        return {"blur": _draw_blur(factor, generator)}
    if step == "down":
        if chance(generator, DECIMATE_PROBABILITY):
            kernel = {"sigma": uniform(generator, 0.1, 0.6 * factor), "shift": (factor - 1) / 2}
            return {"kernel": kernel, "step": factor}
        shrinking = uniform(generator, 1, 2 * factor)
        return {"resize": {"factor": 1 / shrinking, "mode": choice(generator, MODES)}}
    if step == "resize":
        return {"mode": choice(generator, MODES)}
    if step == "noise":
        return {"noise": _draw_noise(generator)}
    return {"quality": choice(generator, JPEG_QUALITIES)}


def _draw_blur(factor: int, generator: torch.Generator) -> dict[str, Any]:
    side = choice(generator, KERNEL_SIDES)
    if chance(generator, ANISOTROPIC_PROBABILITY):
        # the original draws variances here, and a standard deviation for isotropic kernels
        sigmas = [math.sqrt(uniform(generator, 0, 4 + factor)) for _ in "xy"]
        kind, angle = "aniso", uniform(generator, 0, math.pi)
    else:
        sigmas = [uniform(generator, 0, 2 + 0.2 * factor)] * 2
        kind, angle = "iso", 0.0
    sigma_x, sigma_y = (max(sigma, SMALLEST_SIGMA) for sigma in sigmas)
    return {"kind": kind, "side": side, "sigma_x": sigma_x, "sigma_y": sigma_y, "angle": angle}


def _draw_noise(generator: torch.Generator) -> dict[str, Any]:
    level = choice(generator, NOISE_LEVELS)
    kind = choice(generator, tuple(NOISE_KINDS), tuple(NOISE_KINDS.values()))
    if kind == "correlated":  # always at the highest level
        covariance = draw_covariance(generator, NOISE_LEVELS[-1])
        return {"kind": "correlated", "covariance": covariance, "noise_seed": seed(generator)}
    return {"kind": "gaussian", "level": level, "gray": kind == "gray", "noise_seed": seed(generator)}


def _kernels(parameters: list[dict[str, Any]]) -> list[list[Tensor]]:
    """Kernels (1, side, side) of each image's blurs in their order, built in one batch.

    Raises:
        ValueError: If an image has a step more often than the degradation does, as only another program writes it.
    """
    if any(Counter(step["operation"] for step in entry["operations"]) - Counter(STEPS) for entry in parameters):
        raise ValueError(f"operations: expected no more than {', '.join(STEPS)}")
    blurs = [[step["blur"] for step in entry["operations"] if "blur" in step] for entry in parameters]
    squares = iter(build_kernels([entry for row in blurs for entry in row], KERNEL_SIDE).split(1))
    margins = [[(KERNEL_SIDE - entry["side"]) // 2 for entry in row] for row in blurs]
    # crop the zeros around a kernel, which only cost time
    return [[next(squares)[:, m : KERNEL_SIDE - m, m : KERNEL_SIDE - m] for m in row] for row in margins]


def _degrade(image: Tensor, parameters: dict[str, Any], kernels: list[Tensor], lq_size: tuple[int, int]) -> Tensor:
    """Degrade one image (1, 3, H, W) to the LQ size."""
    if parameters["halve"] is not None:
        image = _halve(image, parameters["halve"]["mode"]).clamp(0, 1)
    kernels = iter(kernels)
    for step in parameters["operations"]:
        match step["operation"]:
            case "blur":
                image = blur(image, next(kernels))
            case "down":
                image = _shrink(image, step).clamp(0, 1)
            case "resize":
                image = resize(image, lq_size, step["mode"]).clamp(0, 1)
            case "noise":
                image = add_noise(image, step["noise"])
            case "jpeg":
                image = jpeg(image.clamp(0, 1), [step["quality"]])
    return jpeg(image.clamp(0, 1), [parameters["quality"]])


def _halve(image: Tensor, mode: str) -> Tensor:
    height, width = image.shape[-2:]
    size = (height // 2, width // 2)
    return resize_bicubic(image, size) if mode == "matlab" else resize(image, size, mode)


def _shrink(image: Tensor, step: dict[str, Any]) -> Tensor:
    if "resize" in step:
        size = scaled_size(tuple(image.shape[-2:]), step["resize"]["factor"])
        return resize(image, size, step["resize"]["mode"])
    return decimate(image, step["kernel"]["sigma"], step["kernel"]["shift"], step["step"])
