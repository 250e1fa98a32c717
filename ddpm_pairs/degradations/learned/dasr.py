"""DASR: a network that turns HQ itself into LQ, with learned downscaling."""

from typing import Any

import torch
from torch import Tensor, nn

from ddpm_pairs.degradations.learned.exact_tiles import in_tiles
from ddpm_pairs.degradations.learned.generator import Generator, Made, ResidualBlock, conv
from ddpm_pairs.errors import UserError


class DASR(Generator):
    """The down-sampling network of DASR (Wei, Gu et al. 2021, arXiv 2004.01178).

    Residual blocks at the size of HQ are followed by convolutions of stride 2, two of them at x4. The original has
    0.668 M parameters. Nothing is random. (Another method of this name, by Wang et al. 2021, does not make LQ.)

    Args:
        scale: HQ sides over LQ sides: 1, 2, 4, or 8.
        width: Number of channels.
        blocks: Number of residual blocks.

    Raises:
        UserError: If a value is out of range.
    """

    name = "dasr"

    def __init__(self, scale: int = 4, width: int = 64, blocks: int = 8) -> None:
        super().__init__(scale, {"scale": scale, "width": width, "blocks": blocks})
        if scale not in (1, 2, 4, 8):
            raise UserError(f"dasr scale: got {scale}; expected 1, 2, 4, or 8")
        halvings = scale.bit_length() - 1
        downs = [layer for _ in range(halvings) for layer in (conv(width, width, stride=2), nn.PReLU())]
        self.body = nn.Sequential(
            conv(3, width),
            nn.PReLU(),
            *(ResidualBlock(width, 3, nn.PReLU()) for _ in range(blocks)),
            *downs,
            conv(width, 3),
            nn.Sigmoid(),
        )
        radius = 2 * blocks + 1 + (scale - 1) + scale  # in HQ pixels, of which a later convolution spans more
        self.radius = -(-radius // scale) * scale

    def make(self, hq: Tensor, rows: list[torch.Generator]) -> Made:
        """Turn a batch into LQ; see ``Generator.make``."""
        return Made(self.body(hq))

    def synthesize(self, hq: Tensor, parameters: dict[str, Any]) -> Tensor:
        """Turn one image into LQ; see ``Synthesizer.synthesize``."""
        return in_tiles(self.body, hq, self.tile, self.radius, self.scale)
