"""The residual discriminator of StyleGAN2."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_pairs.layers.stylegan2 import EqualLinear, channels_at, conv_layer, minibatch_stddev


class ResidualDown(nn.Module):
    """Two convolutions that halve the sides, and a 1x1 convolution with stride 2 as a skip connection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = conv_layer(inputs, inputs, 3)
        self.conv2 = conv_layer(inputs, outputs, 3, down=True)
        self.skip = conv_layer(inputs, outputs, 1, down=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)


class StyleDiscriminator(nn.Module):
    """Distinguish real images (positive) from generated ones (negative).

    Args:
        size: Side of the images, a power of two from 16 to 2048.
        channel_multiplier: Factor of the widths at 64 px and above.
        narrow: Factor of all widths.
        compare_batch: Provide the minibatch standard deviation as a channel. Otherwise, each image is judged on its
            own. The shapes of the weights are the same either way.

    Raises:
        UserError: If ``size`` is not a power of two from 16 to 2048, or ``narrow`` leaves no channels.
    """

    def __init__(
        self, size: int = 512, channel_multiplier: int = 2, narrow: float = 1.0, compare_batch: bool = True
    ) -> None:
        super().__init__()
        self.size, self.compare_batch = size, compare_batch
        widths = list(channels_at(size, channel_multiplier, narrow).values())[::-1]
        downs = [ResidualDown(wide, deep) for wide, deep in zip(widths[:-1], widths[1:], strict=True)]
        self.convs = nn.Sequential(conv_layer(3, widths[0], 1), *downs)
        deepest = widths[-1]
        self.final_conv = conv_layer(deepest + 1, deepest, 3)
        self.final_linear = nn.Sequential(EqualLinear(deepest * 16, deepest, activate=True), EqualLinear(deepest, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Images (N, 3, size, size) in [0, 1] -> logits (N, 1)."""
        x = self.convs(pictures * 2 - 1)
        x = minibatch_stddev(x) if self.compare_batch else F.pad(x, (0, 0, 0, 0, 0, 1))
        return self.final_linear(torch.flatten(self.final_conv(x), 1))
