"""Blocks of ReDegNet's networks."""

import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.layers.spectral import SpectralConv2d

SLOPE = 0.2


class ResidualBlock(nn.Module):
    """Two spectral-norm convolutions with an activation before each, and a 1x1 convolution as the skip connection.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        down: Halve the sides by averaging.
    """

    def __init__(self, inputs: int, outputs: int, down: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            SpectralConv2d(inputs, inputs, bias=True),
            nn.LeakyReLU(SLOPE),
            SpectralConv2d(inputs, outputs, bias=True),
        )
        self.skip = SpectralConv2d(inputs, outputs, 1)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W), or half the sides with ``down``."""
        x = self.body(x) + self.skip(x)
        return F.avg_pool2d(x, 2) if self.down else x


def spectral_conv(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """Return a 3x3 spectral-norm convolution and an activation."""
    return [SpectralConv2d(inputs, outputs, 3, stride, bias=True), nn.LeakyReLU(SLOPE)]


def plain_conv(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """Return a 3x3 convolution and an activation that keep the variance of their input."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
    nn.init.kaiming_normal_(conv.weight, SLOPE)
    nn.init.zeros_(conv.bias)
    return [conv, nn.LeakyReLU(SLOPE)]


def signed(images: Tensor) -> Tensor:
    """Map [0, 1] to [-1, 1]."""
    return images * 2 - 1
