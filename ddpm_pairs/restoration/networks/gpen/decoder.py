"""GPEN's decoder, a StyleGAN2 generator; on its own, it is the generator of the GAN prior."""

import torch
from torch import Tensor, nn

from ddpm_pairs.layers.stylegan2 import Activation, EqualLinear, ModulatedConv, PixelNorm, Upsample, channels_at

STYLE_DIM = 512
"""Length of z and w."""


class Noise(nn.Module):
    """Scale noise, or an encoder's features in its place, by a learned number that starts at 0.

    Args:
        isconcat: Concatenate the result with the input's channels instead of adding it.
    """

    def __init__(self, isconcat: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.isconcat = isconcat

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 2C, H, W) with ``isconcat``, else (N, C, H, W)."""
        noise = (self.weight * noise).to(x.dtype)
        return torch.cat([x, noise], dim=1) if self.isconcat else x + noise


class StyleConv(nn.Module):
    """Modulated 3x3 convolution, noise, activation."""

    def __init__(self, inputs: int, outputs: int, isconcat: bool, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, up=up)
        self.noise = Noise(isconcat)
        self.activate = Activation(outputs * (1 + isconcat))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs or twice as many, H or 2H, W or 2W)."""
        return self.activate(self.noise(self.conv(x, w), noise))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, added to the upsampled image of half the resolution."""

    def __init__(self, inputs: int, up: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if up:
            self.upsample = Upsample()

    def forward(self, x: Tensor, w: Tensor, image: Tensor | None = None) -> Tensor:
        """(N, inputs, H, W) and, optionally, an image (N, 3, H / 2, W / 2) -> (N, 3, H, W)."""
        rgb = self.conv(x, w) + self.bias
        return rgb if image is None else rgb + self.upsample(image)


class Constant(nn.Module):
    """The learned 4x4 input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class StyleDecoder(nn.Module):
    """Generate an image from a code: z -> mapping -> w, which modulates every convolution (StyleGAN2, skip type).

    Args:
        size: Side of the images, a power of two from 16 to 2048.
        channel_multiplier: Factor of the widths at 64 px and above.
        narrow: Factor of all widths.
        isconcat: Concatenate noise with the channels (GPEN) instead of adding it (StyleGAN2).

    Attributes:
        latents: Number of w's of an image, one per layer.
        noise_shapes: Shapes of an image's noise at the sides 4, 8, ..., size; both convolutions at a side share it.
    """

    def __init__(
        self, size: int = 512, channel_multiplier: int = 2, narrow: float = 1.0, isconcat: bool = True
    ) -> None:
        super().__init__()
        self.size, self.isconcat = size, isconcat
        self.widths = channels_at(size, channel_multiplier, narrow)
        self.latents = 2 * len(self.widths)
        self.noise_shapes = [(width if isconcat else 1, side, side) for side, width in self.widths.items()]
        mapping = [EqualLinear(STYLE_DIM, STYLE_DIM, lr_multiplier=0.01, activate=True) for _ in range(8)]
        self.style = nn.Sequential(PixelNorm(), *mapping)
        widened = 1 + isconcat
        inputs = self.widths[4]
        self.input = Constant(inputs)
        self.conv1 = StyleConv(inputs, inputs, isconcat)
        self.to_rgb1 = ToRGB(inputs * widened, up=False)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for side in [side for side in self.widths if side > 4]:
            outputs = self.widths[side]
            self.convs.append(StyleConv(inputs * widened, outputs, isconcat, up=True))
            self.convs.append(StyleConv(outputs * widened, outputs, isconcat))
            self.to_rgbs.append(ToRGB(outputs * widened))
            inputs = outputs

    def forward(self, z: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        """Generate images from codes.

        Args:
            z: (N, 512), standard normal.
            noise: See ``decode``; ``None`` draws new noise.

        Returns:
            (N, 3, size, size), nominally in [0, 1].
        """
        if noise is None:
            noise = [torch.randn(len(z), *shape, dtype=z.dtype, device=z.device) for shape in self.noise_shapes]
        return (self.decode(self.copies(self.style(z)), noise) + 1) / 2

    def copies(self, w: Tensor) -> Tensor:
        """Repeat w (N, 512) for every layer, (N, latents, 512)."""
        return w.unsqueeze(1).repeat(1, self.latents, 1)

    def decode(self, latents: Tensor, noise: list[Tensor]) -> Tensor:
        """Generate images from mapped codes.

        Args:
            latents: (N, latents, 512), one w per layer.
            noise: Noise or features (N, width, side, side), one tensor per side 4, 8, ..., size.

        Returns:
            (N, 3, size, size), nominally in [-1, 1].
        """
        x = self.conv1(self.input.input.expand(len(latents), -1, -1, -1), latents[:, 0], noise[0])
        image = self.to_rgb1(x, latents[:, 1])
        for level, to_rgb in enumerate(self.to_rgbs):
            place = 2 * level + 1  # a to-RGB shares its w with the convolution after it
            x = self.convs[2 * level](x, latents[:, place], noise[level + 1])
            x = self.convs[2 * level + 1](x, latents[:, place + 1], noise[level + 1])
            image = to_rgb(x, latents[:, place + 2], image)
        return image
