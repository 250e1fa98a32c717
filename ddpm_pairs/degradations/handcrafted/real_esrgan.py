"""The second-order degradation of Real-ESRGAN (Wang et al., arXiv 2107.10833), with all parameters drawn per image.

It has two rounds of blur, resize, noise and JPEG. After the second noise, the image is resized to the LQ size and
filtered by a final sinc, before or after the second JPEG. The released training code draws resizes, noise kinds and
the order of these last steps once per batch, and mixes batches with a pool; here each image has its own. The released
code resizes by factors and drops fractions of pixels, which shifts content by up to 5.6 HQ pixels, and its ``area``
mode shifts it by fractions of a pixel; here resizes have explicit output sizes, and ``area`` is exact. Sharpening of HQ
is not part of this degradation; see ``HQPreparation``.

The released code compresses with DiffJPEG, which differs from the JPEG of files; ours computes what libjpeg does. With
equal draws, the chroma power of our LQ is 8.5, 4.2 and 1.8 dB lower in the three finest octaves; luminance agrees.
``jpeg: released`` uses the released arithmetic, for comparisons with models trained by that code.

Sizes and steps differ between images, so the chain runs image by image; see ``degrade_one_by_one``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, check_batch, check_scale, lq_size
from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.diff_jpeg import diff_jpeg
from ddpm_pairs.degradations.ops.draws import chance, choice, seed, uniform
from ddpm_pairs.degradations.ops.jpeg import jpeg
from ddpm_pairs.degradations.ops.kernels import GENERALIZED_KINDS, PLATEAU_KINDS, SINC, build_kernels
from ddpm_pairs.degradations.ops.noise import add_noise
from ddpm_pairs.degradations.ops.resize import MODES, resize, scaled_size
from ddpm_pairs.degradations.ops.side_by_side import degrade_one_by_one
from ddpm_pairs.errors import UserError

KERNEL_SIDES = (7, 9, 11, 13, 15, 17, 19, 21)
KERNEL_SIDE = max(KERNEL_SIDES)
FAMILY_PROBABILITIES = {
    "iso": 0.45,
    "aniso": 0.25,
    "generalized_iso": 0.12,
    "generalized_aniso": 0.03,
    "plateau_iso": 0.12,
    "plateau_aniso": 0.03,
}
SINC_PROBABILITY = 0.1
GENERALIZED_BETA = (0.5, 4.0)
PLATEAU_BETA = (1.0, 2.0)
GAUSSIAN_PROBABILITY = 0.5
GRAY_PROBABILITY = 0.4
JPEG_QUALITY = (30.0, 95.0)
FINAL_SINC_PROBABILITY = 0.8
JPEG_LAST_PROBABILITY = 0.5


Codec = Callable[[Tensor, Sequence[float]], Tensor]
JPEGS = ("libjpeg", "released")


@dataclass(frozen=True)
class Stage:
    """Parameters that differ between the two rounds; ranges are uniform."""

    blur_probability: float
    sigma: tuple[float, float]
    up_down_keep: tuple[float, float, float]
    factor_up: tuple[float, float]
    factor_down: tuple[float, float]
    gaussian_sigma: tuple[float, float]
    poisson_factor: tuple[float, float]


STAGES = (
    Stage(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (1.0, 1.5), (0.15, 1.0), (1.0, 30.0), (0.05, 3.0)),
    Stage(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (1.0, 1.2), (0.3, 1.0), (1.0, 25.0), (0.05, 2.5)),
)


class RealESRGAN(BuiltIn):
    """Degrade with Real-ESRGAN's second-order degradation.

    Args:
        scale: HQ side over LQ side: 1, 2 or 4.
        jpeg: ``libjpeg`` compresses as in JPEG files; ``released`` as in the released training code, see ``diff_jpeg``.

    Raises:
        UserError: If the scale is not 1, 2 or 4, or there is no such JPEG.
    """

    name = "real_esrgan"

    def __init__(self, scale: int = 4, jpeg: Literal["libjpeg", "released"] = "libjpeg") -> None:
        self.scale = check_scale(self.name, scale)
        if jpeg not in JPEGS:
            raise UserError(f"real_esrgan jpeg: got {jpeg!r}; expected {' or '.join(JPEGS)}")
        self.jpeg = jpeg

    def spec(self) -> dict[str, Any]:
        """Describe it as before there was a choice of ``jpeg`` if that is the default, so that old runs are resumed."""
        spec = super().spec()
        if self.jpeg == "libjpeg":
            del spec["init_args"]["jpeg"]
        return spec

    def _codec(self) -> Codec:
        return diff_jpeg if self.jpeg == "released" else jpeg

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the parameters of one image.

        Args:
            generator: A CPU generator used for this image only.

        Returns:
            ``stages``, one per round, each with ``blur`` (or ``None``), ``resize``, ``noise`` and ``quality``; and
            ``tail``, with the ``mode`` of the last resize, ``sinc`` (or ``None``) and ``jpeg_last``. Resize factors are
            relative to HQ in the first round and to the LQ size in the second.
        """
        stages = [_draw_stage(stage, generator) for stage in STAGES]
        tail = {"mode": choice(generator, MODES), "sinc": None, "jpeg_last": chance(generator, JPEG_LAST_PROBABILITY)}
        if chance(generator, FINAL_SINC_PROBABILITY):
            cutoff = uniform(generator, math.pi / 3, math.pi)
            tail["sinc"] = {"kind": SINC, "side": choice(generator, KERNEL_SIDES), "cutoff": cutoff}
        return {"stages": stages, "tail": tail}

    @torch.no_grad()
    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
        """
        check_batch(self.name, hq, parameters, self.scale)
        size = lq_size(*hq.shape[-2:], self.scale)
        return degrade_one_by_one(
            partial(_degrade, lq_size=size, codec=self._codec()), hq, parameters, _kernels(parameters)
        )

    @torch.no_grad()
    def apply_on_hq_grid(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade and enlarge LQ bilinearly to the size of HQ, as in face restoration; for ``OnHQGrid``."""
        grid = tuple(hq.shape[-2:])
        size = lq_size(*grid, self.scale)

        def chain(image: Tensor, entry: dict[str, Any], kernels: Tensor) -> Tensor:
            return resize(_degrade(image, entry, kernels, size, self._codec()), grid, "bilinear")

        return degrade_one_by_one(chain, hq, parameters, _kernels(parameters))


def _kernels(parameters: list[dict[str, Any]]) -> Tensor:
    """Kernels (N, 3, side, side) of the two rounds and of the final sinc, built in one batch."""
    if any(len(row["stages"]) != len(STAGES) for row in parameters):
        raise ValueError(f"stages: expected {len(STAGES)}")
    blurs = [
        entry for row in parameters for entry in (*(stage["blur"] for stage in row["stages"]), row["tail"]["sinc"])
    ]
    return build_kernels(blurs, KERNEL_SIDE).unflatten(0, (-1, 3))


def _degrade(
    image: Tensor, parameters: dict[str, Any], kernels: Tensor, lq_size: tuple[int, int], codec: Codec
) -> Tensor:
    """Degrade one image (1, 3, H, W) to the LQ size."""
    (first, second), tail = parameters["stages"], parameters["tail"]
    image = _blur(image, kernels[0], first["blur"])
    image = resize(image, scaled_size(tuple(image.shape[-2:]), first["resize"]["factor"]), first["resize"]["mode"])
    image = codec(add_noise(image, first["noise"]), [first["quality"]])
    image = _blur(image, kernels[1], second["blur"])
    image = resize(image, scaled_size(lq_size, second["resize"]["factor"]), second["resize"]["mode"])
    image = add_noise(image, second["noise"])
    if not tail["jpeg_last"]:
        image = codec(image, [second["quality"]])
    image = _blur(resize(image, lq_size, tail["mode"]), kernels[2], tail["sinc"]).clamp(0, 1)
    return codec(image, [second["quality"]]) if tail["jpeg_last"] else image


def _blur(image: Tensor, kernel: Tensor, parameters: dict[str, Any] | None) -> Tensor:
    if parameters is None:
        return image
    margin = (KERNEL_SIDE - parameters["side"]) // 2  # crop the zeros around the kernel, which only cost time
    return blur(image, kernel[None, margin : KERNEL_SIDE - margin, margin : KERNEL_SIDE - margin])


def _draw_stage(stage: Stage, generator: torch.Generator) -> dict[str, Any]:
    direction = choice(generator, ("up", "down", "keep"), stage.up_down_keep)
    ranges = {"up": stage.factor_up, "down": stage.factor_down, "keep": (1.0, 1.0)}
    gaussian = chance(generator, GAUSSIAN_PROBABILITY)
    return {
        "blur": _draw_blur(stage, generator) if chance(generator, stage.blur_probability) else None,
        "resize": {"factor": uniform(generator, *ranges[direction]), "mode": choice(generator, MODES)},
        "noise": {
            "kind": "gaussian" if gaussian else "poisson",
            "level": uniform(generator, *(stage.gaussian_sigma if gaussian else stage.poisson_factor)),
            "gray": chance(generator, GRAY_PROBABILITY),
            "noise_seed": seed(generator),
        },
        "quality": uniform(generator, *JPEG_QUALITY),
    }


def _draw_blur(stage: Stage, generator: torch.Generator) -> dict[str, Any]:
    side = choice(generator, KERNEL_SIDES)
    if chance(generator, SINC_PROBABILITY):
        # a small window is too narrow for the ripples of a low cutoff
        lowest = math.pi / 3 if side < 13 else math.pi / 5
        return {"kind": SINC, "side": side, "cutoff": uniform(generator, lowest, math.pi)}
    kind = choice(generator, tuple(FAMILY_PROBABILITIES), tuple(FAMILY_PROBABILITIES.values()))
    sigma_x = uniform(generator, *stage.sigma)
    if kind.endswith("aniso"):
        shape = {
            "sigma_x": sigma_x,
            "sigma_y": uniform(generator, *stage.sigma),
            "angle": uniform(generator, -math.pi, math.pi),
        }
    else:
        shape = {"sigma_x": sigma_x, "sigma_y": sigma_x, "angle": 0.0}
    parameters = {"kind": kind, "side": side, **shape}
    if kind in GENERALIZED_KINDS:
        low, high = GENERALIZED_BETA
        parameters["beta"] = uniform(generator, *((low, 1.0) if chance(generator, 0.5) else (1.0, high)))
    elif kind in PLATEAU_KINDS:
        low, high = PLATEAU_BETA
        parameters["beta"] = low if chance(generator, 0.5) else uniform(generator, low, high)
    return parameters
