"""The simplest model: bicubic downsampling."""

from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import check_batch, check_scale, round_to_8_bit, working_lq_size
from ddpm_pairs.degradations.ops.resize import resize_bicubic


class Bicubic:
    """LQ is HQ shrunk by an antialiased bicubic filter, and nothing else.

    With preset `faces` HQ is shrunk by 4 and enlarged again by the same filter. At scale 1 with `natural` LQ is HQ
    as it is, a start that only the walk back degrades.
    """

    name = "bicubic"

    def __init__(self, scale: int = 4, preset: str = "natural") -> None:
        """Choose the scale.

        Args:
            scale: HQ side over LQ side: 1, 2 or 4.
            preset: `natural` (LQ at HQ / scale) or `faces` (LQ back on the HQ grid).

        Raises:
            UserError: for another scale or preset.
        """
        self.scale, self.preset = check_scale(self.name, scale, preset), preset

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Nothing is random: no parameters, and the generator is left as it is."""
        return {}

    @torch.no_grad()
    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see `Degradation.apply`.

        Raises:
            UserError: when shapes, type or number of parameters do not fit.
        """
        check_batch(self.name, hq, parameters, self.scale)
        height, width = hq.shape[-2:]
        with torch.autocast(hq.device.type, enabled=False):
            lq_size = working_lq_size(height, width, self.scale, self.preset)
            lq = resize_bicubic(hq.float().contiguous(), lq_size).clamp(0, 1)
            if self.preset == "faces":
                lq = resize_bicubic(lq, (height, width))
            return round_to_8_bit(lq)
