"""The base of the networks that are trained against a discriminator to turn HQ into LQ."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ddpm_pairs.degradations.learned.synthesizer import Synthesizer
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import resize_bicubic

TILE = 512
"""Side in pixels of the network's input above which an image is processed in tiles."""


class Made(NamedTuple):
    """LQ made in training.

    Attributes:
        lq: (N, 3, H / scale, W / scale), nominally in [0, 1].
        noise: What the method added as noise, (N, C, H / scale, W / scale); ``None`` if it adds none.
    """

    lq: Tensor
    noise: Tensor | None = None


class Generator(Synthesizer):
    """Base of the networks that ``DegradationGAN`` trains.

    Attributes:
        adds_noise: Whether ``make`` returns noise.
        least_batch: Smallest batch, over all ranks, with which it can be trained.
        tile: Side in pixels of its input above which an image is processed in tiles.
    """

    adds_noise: bool = False
    least_batch: ClassVar[int] = 1
    tile: int = TILE

    def __init__(self, scale: int, init_args: dict[str, Any]) -> None:
        super().__init__(scale, init_args)
        for name, value in ({"scale": scale} | init_args).items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise UserError(f"{self.name} {name}: got {value}; expected 1 or more")

    @abstractmethod
    def make(self, hq: Tensor, rows: list[torch.Generator]) -> Made:
        """Turn a batch into LQ, with a gradient.

        Args:
            hq: (N, 3, H, W) in [0, 1]; sides are multiples of ``multiple``.
            rows: N generators on the device of ``hq``, one per image, for what is random.
        """


class ResidualBlock(nn.Module):
    """Two convolutions with an activation between them, optionally normalized, added to their input.

    Args:
        width: Number of channels.
        side: Side of the convolutions' kernels, odd.
        activation: Between the convolutions.
        normalize: Makes the normalization after each convolution; ``None`` does not normalize.
    """

    def __init__(self, width: int, side: int, activation: nn.Module, normalize: type[nn.Module] | None = None) -> None:
        super().__init__()
        layers = [conv(width, width, side), activation, conv(width, width, side)]
        if normalize is not None:
            layers = [layers[0], normalize(width), activation, layers[2], normalize(width)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, width, H, W)."""
        return x + self.body(x)


def conv(channels_in: int, channels_out: int, side: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the size, or divides it by the stride."""
    return nn.Conv2d(channels_in, channels_out, side, stride, side // 2)


def reduced(hq: Tensor, scale: int) -> Tensor:
    """Reduce HQ (N, 3, H, W) bicubically by ``scale``, clamped to [0, 1]."""
    return resize_bicubic(hq, (hq.shape[-2] // scale, hq.shape[-1] // scale)).clamp(0, 1)
