"""A degradation assembled from operations."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, Operation, check_batch, check_scale
from ddpm_pairs.degradations.handcrafted.operations import Blur, Jpeg, Noise
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import resize_bicubic, round_to_8_bit

KEEP_THE_SIZE = (Blur, Noise, Jpeg)


class Chain(BuiltIn):
    """Apply a list of operations to HQ, in order.

    If the result does not have the size HQ / scale, an antialiased bicubic resize is added at the end. Images are
    processed in one batch up to the first operation that may change their size, and one by one from there. This depends
    on the operations only, not on the parameters drawn, so no image depends on the rest of its batch.

    Args:
        operations: ``Blur``, ``Resize``, ``Noise``, ``Jpeg`` or ``BandGain`` from ``ddpm_pairs.degradations``, or
            objects of your own with the same methods ``draw(generator)`` and ``apply(images, parameters, lq_size)``.
        scale: HQ side over LQ side: 1, 2 or 4.

    Raises:
        UserError: If the scale is not 1, 2 or 4, there are no operations, or one is not an operation.
    """

    name = "chain"

    def __init__(self, operations: Sequence[Operation], scale: int = 4) -> None:
        check_scale(self.name, scale)
        if not operations:
            raise UserError(
                "Chain.operations: got none; expected at least one of Blur, Resize, Noise, Jpeg, BandGain, or your own"
            )
        for operation in operations:
            if not _is_operation(operation):
                raise UserError(
                    f"Chain.operations: got {type(operation).__name__}; expected Blur, Resize, Noise, Jpeg, BandGain, "
                    "or a class of your own with draw(generator) and apply(images, parameters, lq_size)"
                )
        self.operations, self.scale = list(operations), scale

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the parameters of one image.

        Args:
            generator: A CPU generator used for this image only.

        Returns:
            ``operations``: the parameters of each operation, in order.
        """
        return {"operations": [operation.draw(generator) for operation in self.operations]}

    @torch.no_grad()
    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
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


def _is_operation(part: Any) -> bool:  # noqa: ANN401 - whatever a config has in the list
    """Return whether ``apply`` takes images, parameters and the LQ size; that of a degradation does not."""
    if not isinstance(part, Operation):
        return False
    try:
        inspect.signature(part.apply).bind(None, None, None)
    except TypeError:
        return False
    return True
