"""A degradation of one's own, put together from operations."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, Operation, check_batch, check_scale
from ddpm_pairs.degradations.handcrafted.operations import Blur, Jpeg, Noise
from ddpm_pairs.degradations.ops.resize import resize_bicubic
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import round_to_8_bit

KEEP_THE_SIZE = (Blur, Noise, Jpeg)


class Chain(BuiltIn):
    """LQ is HQ after some operations, in their order.

    Where they do not end at HQ / scale, an antialiased bicubic resize goes there. Pictures stay in one batch until an
    operation that may change their sizes, and go one by one from there; which of the two is decided by the operations
    and not by what was drawn, so that no picture depends on its neighbours.

    Args:
        operations: `Blur`, `Resize`, `Noise`, `Jpeg`, `BandGain` of `ddpm_pairs.degradations`, or objects of one's own
            with the methods `draw(generator)` and `apply(images, parameters, lq_size)` of those.
        scale: HQ side over LQ side: 1, 2 or 4.

    Raises:
        UserError: for another scale, or without operations.
    """

    name = "chain"

    def __init__(self, operations: Sequence[Operation], scale: int = 4) -> None:
        check_scale(self.name, scale)
        if not operations:
            raise UserError(
                "chain got no operations: give at least one of Blur, Resize, Noise, Jpeg, BandGain, or your own"
            )
        self.operations, self.scale = list(operations), scale

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw one picture's parameters.

        Args:
            generator: a CPU generator of this picture alone.

        Returns:
            `operations`: what each operation drew, in order.
        """
        return {"operations": [operation.draw(generator) for operation in self.operations]}

    @torch.no_grad()
    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see `Degradation.apply`.

        Raises:
            UserError: when shapes, type or number of parameters do not fit.
        """
        check_batch(self.name, hq, parameters, self.scale)
        lq_size = hq.shape[-2] // self.scale, hq.shape[-1] // self.scale
        steps = list(zip(self.operations, zip(*(one["operations"] for one in parameters), strict=True), strict=True))
        sizes_part = next((n for n, (step, _) in enumerate(steps) if not isinstance(step, KEEP_THE_SIZE)), len(steps))
        with torch.autocast(hq.device.type, enabled=False):
            images = hq.float().contiguous()
            for operation, drawn in steps[:sizes_part]:
                images = operation.apply(images, list(drawn), lq_size)
            rows = []
            for i, row in enumerate(images.split(1)):
                for operation, drawn in steps[sizes_part:]:
                    row = operation.apply(row, [drawn[i]], lq_size)
                rows.append(row if tuple(row.shape[-2:]) == lq_size else resize_bicubic(row, lq_size))
            return round_to_8_bit(torch.cat(rows))
