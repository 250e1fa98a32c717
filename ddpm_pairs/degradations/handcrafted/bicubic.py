"""The simplest degradation: bicubic downsampling."""

from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, check_batch, check_scale, lq_size
from ddpm_pairs.degradations.ops.resize import resize_bicubic
from ddpm_pairs.images.pixels import round_to_8_bit


class Bicubic(BuiltIn):
    """LQ is HQ shrunk by an antialiased bicubic filter, and nothing else.

    At scale 1 LQ is HQ as it is, a start that only a DDPM degrades.

    Args:
        scale: HQ side over LQ side: 1, 2 or 4.

    Raises:
        UserError: For another scale.
    """

    name = "bicubic"

    def __init__(self, scale: int = 4) -> None:
        self.scale = check_scale(self.name, scale)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Nothing is random: no parameters, and the generator is left as it is."""
        return {}

    @torch.no_grad()
    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            UserError: If shapes, type or number of parameters do not fit.
        """
        check_batch(self.name, hq, parameters, self.scale)
        size = lq_size(*hq.shape[-2:], self.scale)
        with torch.autocast(hq.device.type, enabled=False):
            return round_to_8_bit(resize_bicubic(hq.float().contiguous(), size))

    @torch.no_grad()
    def apply_on_hq_grid(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """LQ enlarged to the size of HQ by the same filter; for ``OnHQGrid``."""
        size = lq_size(*hq.shape[-2:], self.scale)
        with torch.autocast(hq.device.type, enabled=False):
            lq = resize_bicubic(hq.float().contiguous(), size).clamp(0, 1)
            return round_to_8_bit(resize_bicubic(lq, tuple(hq.shape[-2:])))
