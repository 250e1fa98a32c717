"""The networks of ReDegNet (Li et al. 2022, arXiv 2210.00752): DegNet and SynNet."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.degradations.learned.redegnet.blocks import SLOPE, ResidualBlock, plain_conv, signed, spectral_conv
from ddpm_pairs.errors import UserError
from ddpm_pairs.layers.spectral import SpectralConv2d
from ddpm_pairs.layers.stylegan2 import ModulatedConv, PixelNorm

DEEPEST = 4
"""Side in pixels of the deepest features of a crop of the training size."""


class ReDegNet(nn.Module):
    """DegNet and SynNet, which are trained together.

    Args:
        width: Channels at full size; they double at each halving, up to eight times as many.
        levels: Number of halvings, at the end of which a crop of the training size has 4x4 pixels.
        code: Length of codes.
        residual: See ``SynNet``.
        spectral: See ``DegNet``.

    Attributes:
        size: Side in pixels of the crops with which it is trained and from which codes are read, 4 * 2^levels.
        init_args: The constructor's arguments as plain values.

    Raises:
        UserError: See ``checked_sizes``.
    """

    def __init__(
        self, width: int = 64, levels: int = 6, code: int = 512, residual: bool = False, spectral: bool = True
    ) -> None:
        super().__init__()
        sizes = checked_sizes(width, levels, code)
        self.init_args = sizes | {"residual": residual, "spectral": spectral}
        self.deg, self.syn = DegNet(**sizes, spectral=spectral), SynNet(**sizes, residual=residual)
        self.size = self.deg.size


def checked_sizes(width: int, levels: int, code: int) -> dict[str, int]:
    """Return the sizes of the networks by name.

    Raises:
        UserError: If one is below 1, or there are more than 10 levels, with which crops would have 4096 px.
    """
    sizes = {"width": width, "levels": levels, "code": code}
    for name, value in sizes.items():
        if value < 1:
            raise UserError(f"redegnet {name}: got {value}; expected 1 or more")
    if levels > 10:
        raise UserError(f"redegnet levels: got {levels}; expected at most 10")
    return sizes


class DegNet(nn.Module):
    """Read the code of a degradation from an HQ image and its LQ (13.09 M parameters by default).

    The first convolution starts as filters of the difference between LQ and HQ, so codes start without content.

    Args:
        width: As in ``ReDegNet``.
        levels: As in ``ReDegNet``.
        code: As in ``ReDegNet``.
        spectral: Whether the convolutions have spectral normalization, as in the original. It weakens features at each
            level and cannot be outweighed quickly: in a small DegNet that learned to regress the strength of noise, the
            error had fallen by 60% after 600 steps without it, and not at all with it.

    Attributes:
        size: Side of the images in pixels, 4 * 2^levels.
    """

    def __init__(self, width: int = 64, levels: int = 6, code: int = 512, spectral: bool = True) -> None:
        super().__init__()
        self.size = DEEPEST * 2**levels
        self.features = nn.Sequential(*_pyramid(6, width, levels, spectral))
        first = dict(self.features[0].named_parameters())["weight_orig" if spectral else "weight"]
        with torch.no_grad():
            first[:, :3] = -first[:, 3:]
        deepest = _widths(width, levels)[-1] * DEEPEST**2
        self.code = nn.Sequential(nn.Linear(deepest, code), nn.LeakyReLU(SLOPE), nn.Linear(code, code))

    def forward(self, hq: Tensor, lq: Tensor) -> Tensor:
        """Return the codes (N, code) of HQ and LQ, both (N, 3, size, size) in [0, 1], LQ enlarged to the HQ grid."""
        return self.code(self.features(signed(torch.cat([hq, lq], dim=1))).flatten(1))


class SynNet(nn.Module):
    """Render an HQ image with a code as LQ of the same size (61.2 M parameters by default).

    An encoder turns HQ into content features at each size. A generator like StyleGAN2's starts from the deepest ones;
    its convolutions are modulated by the code and add the content features of their size, each times a learned number
    that starts at 0 (as in the released code; the paper's figure draws a constant).

    Args:
        width: As in ``ReDegNet``.
        levels: As in ``ReDegNet``.
        code: As in ``ReDegNet``.
        residual: Let the generator make the difference between LQ and HQ, which is easier to learn in a short training.
            The original makes LQ itself.

    Attributes:
        multiple: Image sides must be multiples of this.
        init_args: The constructor's arguments as plain values.
    """

    def __init__(self, width: int = 64, levels: int = 6, code: int = 512, residual: bool = False) -> None:
        super().__init__()
        self.init_args = {"width": width, "levels": levels, "code": code, "residual": residual}
        self.multiple, self.residual = 2**levels, residual
        self.encoder = ContentEncoder(width, levels)
        self.generator = CodeGenerator(width, levels, code)

    def forward(self, hq: Tensor, codes: Tensor) -> Tensor:
        """Render HQ (N, 3, H, W) in [0, 1] with codes (N, code); returns (N, 3, H, W), nominally in [0, 1]."""
        return self.render(hq, self.encoder(hq), codes)

    def render(self, hq: Tensor, content: list[Tensor], codes: Tensor) -> Tensor:
        """As ``forward``, with the features that ``encoder`` returned for ``hq``."""
        made = self.generator(content, codes)
        return hq + made if self.residual else (made + 1) / 2


class ContentEncoder(nn.Module):
    """Turn HQ into content features, one map per size, the deepest first and processed once more (15.97 M parameters).

    Args:
        width: As in ``ReDegNet``.
        levels: As in ``ReDegNet``.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        layers = _pyramid(3, width, levels)
        self.stages = nn.ModuleList(nn.Sequential(*layers[n : n + 2]) for n in range(0, len(layers), 2))
        deepest = _widths(width, levels)[-1]
        self.end = nn.Sequential(*spectral_conv(deepest, deepest), ResidualBlock(deepest, deepest))

    def forward(self, hq: Tensor) -> list[Tensor]:
        """Return ``levels`` + 2 maps of HQ (N, 3, H, W): the processed one of the smallest size, then one per size."""
        x, maps = signed(hq), []
        for stage in self.stages:
            x = stage(x)
            maps.insert(0, x)
        return [self.end(x), *maps]


class CodeGenerator(nn.Module):
    """Generate an image from content features and a code (45.18 M parameters).

    Args:
        width: As in ``ReDegNet``.
        levels: As in ``ReDegNet``.
        code: As in ``ReDegNet``.
    """

    def __init__(self, width: int, levels: int, code: int) -> None:
        super().__init__()
        self.style = nn.Sequential(PixelNorm(), *(layer for _ in range(8) for layer in _mapping(code)))
        widths = _widths(width, levels)[::-1]
        self.start = SpectralConv2d(widths[0], widths[0], bias=True)
        self.steps = nn.ModuleList([CodeStep(widths[0], widths[0], code)])
        self.to_rgb = nn.ModuleList([ToRGB(widths[0], code)])
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            self.steps += [CodeStep(inputs, outputs, code), CodeStep(outputs, outputs, code)]
            self.to_rgb.append(ToRGB(outputs, code))

    def forward(self, content: list[Tensor], codes: Tensor) -> Tensor:
        """Return images (N, 3, H, W) in [-1, 1], of the size of the last content map, for codes (N, code)."""
        w = self.style(codes)
        processed, *maps = content
        x = self.steps[0](self.start(processed), w, maps[0])
        image = torch.tanh(self.to_rgb[0](x, w))
        for level, features in enumerate(maps[1:], start=1):
            x = self.steps[2 * level - 1](_doubled(x), w, features)
            x = self.steps[2 * level](x, w, features)
            image = torch.tanh(self.to_rgb[level](x, w) + _doubled(image))
        return image


class CodeStep(nn.Module):
    """A convolution modulated by the code, plus the content, then a spectral-norm convolution and an activation."""

    def __init__(self, inputs: int, outputs: int, code: int) -> None:
        super().__init__()
        self.modulated = ModulatedConv(inputs, outputs, 3, style_dim=code)
        self.strength = nn.Parameter(torch.zeros(1))
        self.conv = nn.Sequential(*spectral_conv(outputs, outputs))

    def forward(self, x: Tensor, w: Tensor, content: Tensor) -> Tensor:
        """(N, inputs, H, W), w (N, code), and content (N, outputs, H, W) -> (N, outputs, H, W)."""
        return self.conv(self.modulated(x, w) + self.strength.to(x.dtype) * content)


class ToRGB(nn.Module):
    """A 1x1 convolution to RGB, modulated by the code."""

    def __init__(self, inputs: int, code: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, demodulate=False, style_dim=code)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(N, inputs, H, W) and w (N, code) -> (N, 3, H, W)."""
        return self.conv(x, w) + self.bias.to(x.dtype)


def _widths(width: int, levels: int) -> list[int]:
    """Return the channels at full size and after each halving."""
    return [width * min(2**level, 8) for level in range(levels + 1)]


def _pyramid(channels: int, width: int, levels: int, normalized: bool = True) -> list[nn.Module]:
    """Return convolutions and activations: one pair at full size, then one per halving."""
    widths, pair = _widths(width, levels), spectral_conv if normalized else plain_conv
    layers = pair(channels, width)
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        layers += pair(inputs, outputs, stride=2)
    return layers


def _mapping(code: int) -> list[nn.Module]:
    """Return a linear layer and an activation that keep the variance of their input."""
    linear = nn.Linear(code, code)
    nn.init.kaiming_normal_(linear.weight, SLOPE)
    nn.init.zeros_(linear.bias)
    return [linear, nn.LeakyReLU(SLOPE)]


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
