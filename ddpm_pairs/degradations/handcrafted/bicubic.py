"""The simplest degradation: bicubic downsampling."""

from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, check_batch, check_scale, lq_size
from ddpm_pairs.images.pixels import resize_bicubic, round_to_8_bit


class Bicubic(BuiltIn):
    """Downsample HQ with an antialiased bicubic filter, without any other degradation.

    At scale 1, LQ equals HQ; as a start, this leaves the whole degradation to the DDPM.

    Args:
        scale: HQ side over LQ side: 1, 2 or 4.

    Raises:
        UserError: If the scale is not 1, 2 or 4.
    """

    name = "bicubic"

    def __init__(self, scale: int = 4) -> None:
        self.scale = check_scale(self.name, scale)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Return no parameters: nothing is random, and the generator is not used."""
        return {}

    @torch.no_grad()
    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
        """
        check_batch(self.name, hq, parameters, self.scale)
        size = lq_size(*hq.shape[-2:], self.scale)
        with torch.autocast(hq.device.type, enabled=False):
            return round_to_8_bit(resize_bicubic(hq.float().contiguous(), size))

    @torch.no_grad()
    def apply_on_hq_grid(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade and enlarge LQ to the size of HQ with the same filter; for ``OnHQGrid``."""
        size = lq_size(*hq.shape[-2:], self.scale)
        with torch.autocast(hq.device.type, enabled=False):
            lq = resize_bicubic(hq.float().contiguous(), size).clamp(0, 1)
            return round_to_8_bit(resize_bicubic(lq, tuple(hq.shape[-2:])))
