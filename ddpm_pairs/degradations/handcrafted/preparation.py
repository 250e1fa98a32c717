"""Optional preparation of HQ before it is degraded."""

from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn
from ddpm_pairs.degradations.ops.color import to_gray
from ddpm_pairs.degradations.ops.draws import chance
from ddpm_pairs.degradations.ops.sharpen import unsharp_mask
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import round_to_8_bit
from ddpm_pairs.tensors import to_device


class HQPreparation(BuiltIn):
    """Sharpen HQ (as Real-ESRGAN does) or convert a share of it to gray (as GPEN does with a fifth of its faces).

    The prepared image becomes the HQ of the pair. The interface is that of a degradation of scale 1.

    Args:
        sharpen: Whether to sharpen all images with ``unsharp_mask``.
        gray: Share of images that become gray, with three equal channels; GPEN uses 0.2.

    Raises:
        UserError: If ``gray`` is not between 0 and 1.
    """

    name = "hq_preparation"
    scale = 1

    def __init__(self, sharpen: bool = False, gray: float = 0.0) -> None:
        if not 0 <= gray <= 1:
            raise UserError(f"share of gray HQ images: got {gray}; expected a number from 0 to 1")
        self.sharpen, self.gray = sharpen, float(gray)

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw ``gray``; ``sharpened`` is the same for all images."""
        return {"sharpened": self.sharpen, "gray": self.gray > 0 and chance(generator, self.gray)}

    @torch.no_grad()
    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Prepare a batch.

        Args:
            hq: (N, 3, H, W) in [0, 1], multiples of 1/255, on any device.
            parameters: N results of ``draw``.

        Returns:
            (N, 3, H, W) in [0, 1], rounded to multiples of 1/255; ``hq`` itself if there is nothing to do.
        """
        sharpened, gray = ([one[name] for one in parameters] for name in ("sharpened", "gray"))
        for wanted, change in ((sharpened, unsharp_mask), (gray, to_gray)):
            if any(wanted):
                mask = to_device(torch.tensor(wanted), hq.device).view(-1, 1, 1, 1)
                hq = torch.where(mask, round_to_8_bit(change(hq)), hq)
        return hq
