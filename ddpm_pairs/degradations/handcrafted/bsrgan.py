"""BSRGAN's practical degradation (Zhang et al., arXiv 2103.14006): its steps in random order.

The numbers are those of the released code (`degradation_bsrgan`), which differ from the paper's here and there. Two
blurs, two downsamplings, noise and JPEG come in an order drawn per picture, the second downsampling always after the
first; a JPEG ends the chain. The seventh shuffled step, camera noise, needs a camera model that was never released,
and was not part of the released training either.

The original resizes to named sizes and so stays in place, but for its decimation: with sides that are no multiple of
the factor it would stretch the picture by up to three pixels, so such sides (possible with `OnHQGrid` only) are padded
first.

Orders and sizes differ from picture to picture, so the chain runs picture by picture; `degrade_one_by_one` says why.
"""

import math
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
from ddpm_pairs.degradations.ops.resize import MODES, resize, resize_bicubic, scaled_size
from ddpm_pairs.degradations.ops.side_by_side import degrade_one_by_one

STEPS = ("blur", "blur", "down", "resize", "noise", "jpeg")
HALVE_PROBABILITY = 0.25
MATLAB_PROBABILITY = 0.5
KERNEL_SIDES = tuple(range(7, 26, 2))
KERNEL_SIDE = max(KERNEL_SIDES)
ANISOTROPIC_PROBABILITY = 0.5
SMALLEST_SIGMA = 0.1
"""No blur at all to seven digits; below it, at 0, the original divides by zero."""
DECIMATE_PROBABILITY = 0.25
NOISE_LEVELS = range(2, 26)
NOISE_KINDS = {"colour": 0.4, "gray": 0.4, "correlated": 0.2}
JPEG_PROBABILITY = 0.9
JPEG_QUALITIES = range(30, 96)


class BSRGAN(BuiltIn):
    """LQ by BSRGAN's shuffled degradation, without camera noise.

    The original knows scales 2 and 4; scale 1 is our reading of its formulas with a factor of 1.

    Args:
        scale: HQ side over LQ side: 1, 2 or 4.

    Raises:
        UserError: For another scale.
    """

    name = "bsrgan"

    def __init__(self, scale: int = 4) -> None:
        self.scale = check_scale(self.name, scale)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw one picture's parameters.

        Args:
            generator: a CPU generator of this picture alone.

        Returns:
            `halve` (None, or the `mode` by which a quarter of the x4 pictures are halved before all else), `operations`
            in their order, each with its name under `operation`, and the `quality` of the last JPEG. Operations:
            `blur`; `down`, either `resize` by a factor or a Gaussian `kernel`, which looks `shift` px to the right and
            below, and every `step`-th pixel; `resize` to the LQ size; `noise`; `jpeg`, left out in a tenth of the
            pictures.
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
        """Degrade a batch; see `Degradation.apply`.

        Raises:
            UserError: when shapes, type or number of parameters do not fit.
        """
        check_batch(self.name, hq, parameters, self.scale)
        size = lq_size(*hq.shape[-2:], self.scale)
        return degrade_one_by_one(partial(_degrade, lq_size=size), hq, parameters, _kernels(parameters))

    def apply_on_hq_grid(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """LQ enlarged bilinearly to the size of HQ; for ``OnHQGrid``."""
        height, width = hq.shape[-2:]
        size = lq_size(height, width, self.scale)
        grid = tuple(side * self.scale for side in size)

        def chain(image: Tensor, entry: dict[str, Any], kernels: list[Tensor]) -> Tensor:
            image = F.pad(image, (0, grid[1] - width, 0, grid[0] - height), mode="replicate")
            return resize(_degrade(image, entry, kernels, size), grid, "bilinear")[..., :height, :width]

        return degrade_one_by_one(chain, hq, parameters, _kernels(parameters))


def _draw_operation(step: str, factor: int, generator: torch.Generator) -> dict[str, Any]:
    """Draw what one step needs; `factor` is by how much the picture is still to shrink."""
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
        # the original draws variances here and a standard deviation below
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
    if kind == "correlated":  # always of the highest level
        covariance = draw_covariance(generator, NOISE_LEVELS[-1])
        return {"kind": "correlated", "covariance": covariance, "noise_seed": seed(generator)}
    return {"kind": "gaussian", "level": level, "gray": kind == "gray", "noise_seed": seed(generator)}


def _kernels(parameters: list[dict[str, Any]]) -> list[list[Tensor]]:
    """Kernels (1, side, side) of each picture's blurs in their order, made at once."""
    blurs = [[step["blur"] for step in entry["operations"] if "blur" in step] for entry in parameters]
    squares = iter(build_kernels([entry for row in blurs for entry in row], KERNEL_SIDE).split(1))
    margins = [[(KERNEL_SIDE - entry["side"]) // 2 for entry in row] for row in blurs]
    # the zeros around a kernel would only cost time
    return [[next(squares)[:, m : KERNEL_SIDE - m, m : KERNEL_SIDE - m] for m in row] for row in margins]


def _degrade(image: Tensor, parameters: dict[str, Any], kernels: list[Tensor], lq_size: tuple[int, int]) -> Tensor:
    """One picture (1, 3, H, W) to the LQ size."""
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
