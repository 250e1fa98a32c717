"""What every degradation model offers, and the checks that all of them share."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ddpm_pairs.errors import UserError

SCALES = (1, 2, 4)
"""HQ side over LQ side that the models offer."""

PRESETS = ("natural", "faces")
"""`natural` makes LQ at HQ / scale; `faces`, at scale 1 alone, makes it smaller and brings it back to the HQ grid."""

FACES_WORKING_SCALE = 4
"""HQ side over the side at which `faces` makes LQ, before it comes back to the HQ grid."""


@runtime_checkable
class Degradation(Protocol):
    """A model that turns HQ into the initial LQ.

    Attributes:
        name: the model's short name, as a manifest records it.
        scale: HQ side over LQ side.
    """

    name: str
    scale: int

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw one picture's parameters.

        Args:
            generator: a CPU generator of this picture alone.

        Returns:
            Parameters of floats, ints, bools, strings, None, lists and dicts only, so that JSON holds them without
            loss. Seeds of noise fields stand under `noise_seed`.
        """
        ...

    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch: a pure function without gradient.

        Row i depends on `hq[i]` and `parameters[i]` only, bit for bit for one batch size, device and number of threads.

        Args:
            hq: (N, 3, H, W) float in [0, 1] on any device; H and W multiples of `scale`.
            parameters: N results of `draw`.

        Returns:
            (N, 3, H / scale, W / scale) float32 in [0, 1], rounded to multiples of 1/255.

        Raises:
            ValueError: when shapes, type or number of parameters do not fit.
        """
        ...


def check_scale(name: str, scale: int, preset: str) -> int:
    """Return `scale` when a model offers it with this preset.

    Raises:
        UserError: when `scale` is not one of `SCALES`, `preset` not one of `PRESETS`, or the preset is `faces` and the
            scale not 1.
    """
    if scale not in SCALES:
        raise UserError(f"{name} got scale {scale!r}: give one of {', '.join(map(str, SCALES))}")
    if preset not in PRESETS:
        raise UserError(f"{name} got preset {preset!r}: give one of {', '.join(PRESETS)}")
    if preset == "faces" and scale != 1:
        raise UserError(
            f"{name} got scale {scale} with preset faces, which keeps LQ on the HQ grid: give scale 1, "
            "or preset natural"
        )
    return scale


def check_batch(name: str, hq: Tensor, parameters: list[dict[str, Any]], scale: int) -> None:
    """Check what `apply` was given.

    Raises:
        ValueError: when `hq` is no floating (N, 3, H, W) batch, N is 0 or not the number of parameters, or a side is
            no multiple of `scale`.
    """
    if hq.ndim != 4 or hq.shape[1] != 3 or not hq.is_floating_point():
        raise ValueError(
            f"{name} got HQ of shape {tuple(hq.shape)} and type {hq.dtype}: give floating (N, 3, H, W) in [0, 1]"
        )
    if len(hq) != len(parameters) or len(hq) == 0:
        raise ValueError(
            f"{name} got {len(hq)} pictures and {len(parameters)} sets of parameters: "
            "give one set a picture, at least one"
        )
    height, width = hq.shape[-2:]
    if height < 1 or width < 1 or height % scale or width % scale:
        raise ValueError(
            f"{name} got HQ of {width}x{height} px at scale {scale}: crop both sides to a multiple of {scale}"
        )


def working_scale(scale: int, preset: str) -> int:
    """HQ side over the side at which LQ is made: `scale`, and 4 for `faces`."""
    return FACES_WORKING_SCALE if preset == "faces" else scale


def working_lq_size(height: int, width: int, scale: int, preset: str) -> tuple[int, int]:
    """Size (height, width) at which LQ is made: HQ / scale, for `faces` a quarter of HQ; rounded up."""
    divisor = working_scale(scale, preset)
    return -(-height // divisor), -(-width // divisor)


def round_to_8_bit(images: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the nearest multiple of 1/255."""
    return images.clamp(0, 1).mul_(255).round_().div_(255)
