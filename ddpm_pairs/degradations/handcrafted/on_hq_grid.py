"""Resize the LQ of another degradation back to the HQ grid."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ddpm_pairs.degradations.base import BuiltIn, Degradation, check_batch, facts_of, multiple_of, prepare
from ddpm_pairs.degradations.by_name import by_name
from ddpm_pairs.degradations.ops.resize import resize
from ddpm_pairs.images.pixels import round_to_8_bit


class OnHQGrid(BuiltIn):
    """Degrade at a scale above 1, then enlarge LQ to the size of HQ. The result has scale 1, as in face restoration.

    ``bicubic``, ``bsrgan`` and ``real_esrgan`` are enlarged before rounding to 8 bits. The LQ of any other degradation
    is enlarged bilinearly. Sides that are not multiples of ``factor`` are rounded up.

    Args:
        degradation: The degradation at scale ``factor``, by name or as an object.
        factor: HQ side over the side of the inner LQ.

    Raises:
        UserError: If the degradation is unknown, or its scale is not ``factor``.
    """

    name = "on_hq_grid"
    scale = 1

    def __init__(self, degradation: Degradation | str = "real_esrgan", factor: int = 4) -> None:
        self.degradation, self.factor = by_name(degradation, factor, "factor"), factor

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw ``degradation``, the entry of the inner degradation: ``name`` and ``parameters``."""
        return {"degradation": {"name": self.degradation.name, "parameters": self.degradation.draw(generator)}}

    @torch.no_grad()
    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
        """
        check_batch(self.name, hq, parameters, self.scale)
        drawn = [one["degradation"]["parameters"] for one in parameters]
        if hasattr(self.degradation, "apply_on_hq_grid"):
            return self.degradation.apply_on_hq_grid(hq, drawn)
        height, width = hq.shape[-2:]
        below, right = (-side % multiple_of(self.degradation) for side in (height, width))
        padded = F.pad(hq, (0, right, 0, below), mode="replicate")
        lq = self.degradation.apply(padded, drawn)
        return round_to_8_bit(resize(lq, tuple(padded.shape[-2:]), "bilinear")[..., :height, :width])

    def prepare(self, device: torch.device) -> None:
        """Move the inner degradation's weights to the device."""
        prepare(self.degradation, device)

    def facts(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Facts of the inner degradation."""
        return facts_of(self.degradation)(parameters["degradation"]["parameters"])
