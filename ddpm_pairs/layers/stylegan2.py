"""Layers of StyleGAN2 (Karras et al. 2020) in pure torch, with the names of the released GPEN weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_pairs.errors import UserError

GAIN = math.sqrt(2)
"""Factor that preserves the variance through a leaky ReLU."""


def fir_kernel(gain: float = 1.0) -> Tensor:
    """Return the binomial low-pass filter (4, 4): outer([1, 3, 3, 1]) / 64, times a gain."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) * (gain / 64)


def channels_at(size: int, channel_multiplier: int, narrow: float) -> dict[int, int]:
    """Return the number of channels at each of the sides 4, 8, ..., size.

    Args:
        size: The largest side, a power of two from 16 to 2048.
        channel_multiplier: Factor of the widths at 64 px and above.
        narrow: Factor of all widths.

    Raises:
        UserError: If ``size`` is not a power of two from 16 to 2048, or a width is below 1.
    """
    sides = [2**n for n in range(2, 12)]
    if size not in sides[2:]:
        raise UserError(f"size: got {size}; expected a power of two from 16 to 2048")
    full = {side: 512 if side <= 32 else 16384 * channel_multiplier // side for side in sides if side <= size}
    widths = {side: int(width * narrow) for side, width in full.items()}
    if min(widths.values()) < 1:
        raise UserError(f"narrow: got {narrow}, which leaves no channels at {size} px; use a larger number")
    return widths


class PixelNorm(nn.Module):
    """Divide each vector by its root mean square."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class Blur(nn.Module):
    """FIR low-pass filter with zero padding: (N, C, H, W) -> (N, C, H + 2 pad - 3, W + 2 pad - 3).

    Args:
        pad: Zeros added on every side.
        gain: Sum of the filter's taps.
    """

    def __init__(self, pad: int, gain: float = 1.0) -> None:
        super().__init__()
        self.pad = pad
        self.register_buffer("kernel", fir_kernel(gain))

    def forward(self, x: Tensor) -> Tensor:
        """Filter each channel. The filter is symmetric, so correlation and convolution are the same."""
        weight = self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, weight, padding=self.pad, groups=x.shape[1])


class Upsample(nn.Module):
    """Double the sides: insert zeros between samples, then apply the FIR low-pass with gain 4, padded by (2, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(4.0))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        weight = self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=x.shape[1])


class Activation(nn.Module):
    """sqrt(2) * LeakyReLU_0.2(x + bias), with one bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return F.leaky_relu(x + self.bias.to(x.dtype).view(1, -1, 1, 1), 0.2) * GAIN


class EqualLinear(nn.Module):
    """Linear layer with equalized learning rate (Karras et al. 2018).

    Weights are stored as N(0, 1) and divided by sqrt(fan-in) in use.

    Args:
        inputs: Number of input features.
        outputs: Number of output features.
        bias: Initial value of the bias.
        lr_multiplier: Factor of the learning rate. Weights are divided by it for storage and multiplied by it in use.
        activate: Apply sqrt(2) * LeakyReLU_0.2.
    """

    def __init__(
        self, inputs: int, outputs: int, bias: float = 0.0, lr_multiplier: float = 1.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale, self.lr_multiplier, self.activate = lr_multiplier / math.sqrt(inputs), lr_multiplier, activate

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) -> (N, outputs)."""
        x = F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)
        return F.leaky_relu(x, 0.2) * GAIN if self.activate else x


class EqualConv(nn.Module):
    """Convolution without bias, with equalized learning rate; see ``EqualLinear``."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, pad: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.scale, self.stride, self.pad = 1 / math.sqrt(inputs * side**2), stride, pad

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        return F.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.pad)


def conv_layer(inputs: int, outputs: int, side: int, down: bool = False, activate: bool = True) -> nn.Sequential:
    """Build a convolution that preserves the size, or blurs and halves it, and optionally an activation."""
    if down:
        layers = [Blur((side + 1) // 2), EqualConv(inputs, outputs, side, stride=2)]
    else:
        layers = [EqualConv(inputs, outputs, side, pad=side // 2)]
    return nn.Sequential(*layers, *([Activation(outputs)] if activate else []))


class ModulatedConv(nn.Module):
    """Convolution whose weights are scaled per image and input channel by a style, then normalized (Eqs. 1-3).

    w'_oik = s_i w_oik / sqrt(sum_ik (s_i w_oik)^2 + 1e-8). The style scales input channels and the norm scales output
    channels, so both are applied to the images instead, and one convolution processes the whole batch.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        side: Side of the kernel.
        demodulate: Normalize the weights.
        up: Double the sides with a transposed convolution of stride 2 and a blur.
        style_dim: Length of w.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, demodulate: bool = True, up: bool = False, style_dim: int = 512
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, side, side))
        self.modulation = EqualLinear(style_dim, inputs, bias=1.0)
        self.scale, self.demodulate, self.up = 1 / math.sqrt(inputs * side**2), demodulate, up
        if up:
            self.blur = Blur(1, gain=4.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(N, inputs, H, W) and w (N, style_dim) -> (N, outputs, H, W), or (N, outputs, 2H, 2W) with ``up``."""
        style = self.modulation(w)
        weight = self.weight[0] * self.scale
        x = x * style.to(x.dtype)[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        else:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        if self.demodulate:
            power = F.linear(style.square(), weight.square().sum(dim=(2, 3)))
            x = x * torch.rsqrt(power + 1e-8).to(x.dtype)[:, :, None, None]
        return self.blur(x) if self.up else x


def minibatch_stddev(x: Tensor) -> Tensor:
    """Append a channel with the standard deviation over the batch (Karras et al. 2018, section 3).

    Args:
        x: (N, C, H, W); the whole batch is one group.

    Returns:
        (N, C + 1, H, W). The last channel is constant: the standard deviation averaged over all channels and positions.
    """
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    deviation = torch.sqrt(exact.var(dim=0, unbiased=False) + 1e-8).mean()
    return torch.cat([x, deviation.to(x.dtype).expand(len(x), 1, *x.shape[2:])], dim=1)
