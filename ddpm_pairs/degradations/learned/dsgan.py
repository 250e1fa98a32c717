"""DSGAN: a network that gives bicubically reduced HQ the high frequencies of real LQ."""

from typing import Any

import torch
from torch import Tensor, nn

from ddpm_pairs.degradations.learned.exact_tiles import in_tiles
from ddpm_pairs.degradations.learned.generator import Generator, Made, ResidualBlock, conv, reduced


class DSGAN(Generator):
    """The generator of DSGAN, which made the training pairs of ESRGAN-FS (Fritsche et al. 2019, arXiv 1911.07850).

    HQ is reduced bicubically; residual blocks without normalization then change it at the size of LQ. The original has
    0.594 M parameters. Nothing is random.

    Args:
        scale: HQ sides over LQ sides.
        width: Number of channels.
        blocks: Number of residual blocks.

    Raises:
        UserError: If a value is below 1.
    """

    name = "dsgan"

    def __init__(self, scale: int = 4, width: int = 64, blocks: int = 8) -> None:
        super().__init__(scale, {"scale": scale, "width": width, "blocks": blocks})
        self.body = nn.Sequential(
            conv(3, width),
            nn.PReLU(),
            *(ResidualBlock(width, 3, nn.PReLU()) for _ in range(blocks)),
            conv(width, 3),
            nn.Sigmoid(),
        )
        self.radius = 2 * blocks + 2  # of the receptive field: one pixel per convolution

    def make(self, hq: Tensor, rows: list[torch.Generator]) -> Made:
        """Turn a batch into LQ; see ``Generator.make``."""
        return Made(self.body(reduced(hq, self.scale)))

    def synthesize(self, hq: Tensor, parameters: dict[str, Any]) -> Tensor:
        """Turn one image into LQ; see ``Synthesizer.synthesize``."""
        return in_tiles(self.body, reduced(hq, self.scale), self.tile, self.radius)
