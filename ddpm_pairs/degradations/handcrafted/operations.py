"""Operations with configurable ranges, from which you can assemble a ``Chain`` in YAML.

Like a degradation, each operation draws the parameters of one image (``draw``) and applies them to a batch (``apply``).
``apply`` also gets the size of the final LQ. If ``probability`` is below 1, an operation is randomly skipped for some
images, whose record is then None. Images are in [0, 1] before and after each operation. The operations use the same
functions as the built-in degradations.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.ops.blur import blur
from ddpm_pairs.degradations.ops.draws import chance, choice, seed, uniform
from ddpm_pairs.degradations.ops.jpeg import jpeg
from ddpm_pairs.degradations.ops.kernels import GENERALIZED_KINDS, KINDS, PLATEAU_KINDS, SINC, build_kernels
from ddpm_pairs.degradations.ops.noise import add_noise
from ddpm_pairs.degradations.ops.resize import MODES, MOST_FACTOR, resize, scaled_size
from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import to_device

NOISE_KINDS = ("gaussian", "poisson")
MOST_SIDE = 1001
"""Largest side of a kernel, so that no config exhausts the memory."""

Range = tuple[float, float]


class Blur:
    """Convolve each image with its own kernel.

    Args:
        kinds: Kernel families to draw from, equally likely; a family listed twice counts twice. Any of ``iso``,
            ``aniso``, ``generalized_iso``, ``generalized_aniso``, ``plateau_iso``, ``plateau_aniso``, ``sinc``.
        sigma: Range of the standard deviation in pixels, uniform; drawn separately for both axes of an ``aniso``
            kernel.
        sides: Kernel sides to draw from, in pixels, odd.
        beta: Range of the exponent of generalized and plateau kernels, uniform.
        cutoff: Range of the cutoff of a ``sinc`` in radians per pixel, uniform, within (0, pi].
        probability: Share of images that are blurred.

    Raises:
        UserError: If a family is unknown, a side is even, or a range is invalid.
    """

    def __init__(
        self,
        kinds: Sequence[str] = ("iso", "aniso"),
        sigma: Range = (0.2, 3.0),
        sides: Sequence[int] = (21,),
        beta: Range = (0.5, 4.0),
        cutoff: Range = (math.pi / 3, math.pi),
        probability: float = 1.0,
    ) -> None:
        self.kinds = _check_names("Blur", "kinds", kinds, KINDS)
        self.sigma = _check_range("Blur", "sigma", sigma, 0.01, math.inf)
        self.sides = list(sides)
        if not self.sides or any(side % 2 == 0 or not 1 <= side <= MOST_SIDE for side in self.sides):
            raise UserError(f"Blur.sides: got {self.sides}; expected one or more odd numbers up to {MOST_SIDE}")
        self.beta = _check_range("Blur", "beta", beta, 0.01, math.inf)
        self.cutoff = _check_range("Blur", "cutoff", cutoff, 0.01, math.pi)
        self.probability = _check_probability("Blur", "probability", probability)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw ``blur``: the parameters of a kernel (see ``build_kernels``), or None."""
        if not chance(generator, self.probability):
            return {"blur": None}
        kind, side = choice(generator, self.kinds), choice(generator, self.sides)
        if kind == SINC:
            return {"blur": {"kind": kind, "side": side, "cutoff": uniform(generator, *self.cutoff)}}
        sigma_x = uniform(generator, *self.sigma)
        turned = kind.endswith("aniso")
        kernel = {
            "kind": kind,
            "side": side,
            "sigma_x": sigma_x,
            "sigma_y": uniform(generator, *self.sigma) if turned else sigma_x,
            "angle": uniform(generator, -math.pi, math.pi) if turned else 0.0,
        }
        if kind in (*GENERALIZED_KINDS, *PLATEAU_KINDS):
            kernel["beta"] = uniform(generator, *self.beta)
        return {"blur": kernel}

    def apply(self, images: Tensor, parameters: list[dict[str, Any]], lq_size: tuple[int, int]) -> Tensor:
        """Blur (N, 3, H, W); overshoot is clamped to [0, 1]."""
        kernels = build_kernels([entry["blur"] for entry in parameters], max(self.sides))
        return blur(images, to_device(kernels, images.device)).clamp(0, 1)


class Resize:
    """Resize to an explicit size without antialiasing, so that content stays aligned.

    Args:
        factor: Range of the factor by which the current sides are multiplied, uniform; ``None`` resizes to the final LQ
            size, HQ / scale.
        modes: Interpolation modes to draw from, equally likely: any of ``area``, ``bilinear``, ``bicubic``.
        probability: Share of images that are resized.

    Raises:
        UserError: If a mode is unknown or a range is invalid.
    """

    def __init__(self, factor: Range | None = None, modes: Sequence[str] = MODES, probability: float = 1.0) -> None:
        self.factor = None if factor is None else _check_range("Resize", "factor", factor, 0.01, MOST_FACTOR)
        self.modes = _check_names("Resize", "modes", modes, MODES)
        self.probability = _check_probability("Resize", "probability", probability)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw ``resize``: ``mode`` and, unless the target is the final LQ size, ``factor``; or None."""
        if not chance(generator, self.probability):
            return {"resize": None}
        drawn: dict[str, Any] = {"mode": choice(generator, self.modes)}
        if self.factor is not None:
            drawn["factor"] = uniform(generator, *self.factor)
        return {"resize": drawn}

    def apply(self, images: Tensor, parameters: list[dict[str, Any]], lq_size: tuple[int, int]) -> Tensor:
        """Resize a batch of one image (1, 3, H, W), because sizes differ between images; clamped to [0, 1]."""
        (entry,) = (one["resize"] for one in parameters)
        if entry is None:
            return images
        size = lq_size
        if "factor" in entry:
            size = scaled_size(tuple(images.shape[-2:]), entry["factor"])
        return resize(images, size, entry["mode"]).clamp(0, 1)


class Noise:
    """Add noise from a recorded seed, independent from pixel to pixel.

    Args:
        kinds: Kinds to draw from, equally likely: ``gaussian``, ``poisson``.
        sigma: Range of the standard deviation of Gaussian noise in 8-bit units, uniform.
        factor: Range of the factor on Poisson noise, uniform; see ``poisson_noise``.
        gray: Share of noisy images with the same noise in all three channels.
        probability: Share of images to which noise is added.

    Raises:
        UserError: If a kind is unknown or a range is invalid.
    """

    def __init__(
        self,
        kinds: Sequence[str] = ("gaussian",),
        sigma: Range = (1.0, 25.0),
        factor: Range = (0.05, 2.5),
        gray: float = 0.0,
        probability: float = 1.0,
    ) -> None:
        self.kinds = _check_names("Noise", "kinds", kinds, NOISE_KINDS)
        self.sigma = _check_range("Noise", "sigma", sigma, 0.0, math.inf)
        self.factor = _check_range("Noise", "factor", factor, 0.0, math.inf)
        self.gray = _check_probability("Noise", "gray", gray)
        self.probability = _check_probability("Noise", "probability", probability)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw ``noise``: ``kind``, ``level``, ``gray`` and ``noise_seed`` (see ``add_noise``), or None."""
        if not chance(generator, self.probability):
            return {"noise": None}
        kind = choice(generator, self.kinds)
        level = uniform(generator, *(self.sigma if kind == "gaussian" else self.factor))
        gray = chance(generator, self.gray)
        return {"noise": {"kind": kind, "level": level, "gray": gray, "noise_seed": seed(generator)}}

    def apply(self, images: Tensor, parameters: list[dict[str, Any]], lq_size: tuple[int, int]) -> Tensor:
        """Add the noise to (N, 3, H, W)."""
        entries = [entry["noise"] for entry in parameters]
        rows = images.split(1)
        return torch.cat([row if one is None else add_noise(row, one) for row, one in zip(rows, entries, strict=True)])


class Jpeg:
    """Compress as JPEG with 4:2:0 chroma.

    Args:
        quality: Range of the quality, 1 to 100, uniform and not rounded.
        probability: Share of images that are compressed.

    Raises:
        UserError: If a range is invalid.
    """

    def __init__(self, quality: Range = (30.0, 95.0), probability: float = 1.0) -> None:
        self.quality = _check_range("Jpeg", "quality", quality, 1.0, 100.0)
        self.probability = _check_probability("Jpeg", "probability", probability)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw ``quality``, or None."""
        return {"quality": uniform(generator, *self.quality) if chance(generator, self.probability) else None}

    def apply(self, images: Tensor, parameters: list[dict[str, Any]], lq_size: tuple[int, int]) -> Tensor:
        """Compress (N, 3, H, W)."""
        qualities = [entry["quality"] for entry in parameters]
        left_out = [quality is None for quality in qualities]
        if all(left_out):
            return images
        # encode all rows, because a smaller batch might give different bits
        encoded = jpeg(images, [100.0 if quality is None else quality for quality in qualities])
        mask = to_device(torch.tensor(left_out), images.device)
        return torch.where(mask.view(-1, 1, 1, 1), images, encoded)


def _check_names(owner: str, option: str, names: Sequence[str], known: Sequence[str]) -> list[str]:
    if isinstance(names, str) or not names or any(name not in known for name in names):
        raise UserError(f"{owner}.{option}: got {names!r}; expected a list of one or more of {', '.join(known)}")
    return list(names)


def _check_range(owner: str, option: str, given: Range, lowest: float, highest: float) -> Range:
    low, high = given
    if not lowest <= low <= high <= highest or high == math.inf:
        top = "" if highest == math.inf else f" <= {highest:.4g}"
        raise UserError(
            f"{owner}.{option}: got [{low}, {high}]; expected [low, high], {lowest:.4g} <= low <= high{top}"
        )
    return float(low), float(high)


def _check_probability(owner: str, option: str, given: float) -> float:
    if not 0 <= given <= 1:
        raise UserError(f"{owner}.{option}: got {given}; expected a number from 0 to 1")
    return float(given)
