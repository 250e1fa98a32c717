"""The plain U-Net with which noise-space adaptation (Noise-DA) was published."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.errors import UserError

SLOPE = 0.2
"""Slope of every leaky ReLU."""

SIGNS = {"encoder.0.conv1.weight", "enlargements.0.weight", "decoder.0.conv1.weight", "last.weight"}
"""Names of weights that identify the network."""


class RestorationUNet(nn.Module):
    """Denoise, derain, or deblur with a U-Net that predicts a residual (Noise-DA, arXiv 2406.18516).

    Each level has two 3x3 convolutions. Average pooling halves the sides; bilinear interpolation with aligned corners
    and a 3x3 convolution double them again. There are no normalization layers. The default widths give 8.559 million
    parameters, as published.

    Images whose sides are no multiples of ``multiple`` are padded by ``restore_picture``, by reflection. The authors
    repeat the edge pixels instead.

    Args:
        widths: Channels of each level, starting at full resolution.

    Attributes:
        scale: 1; the restored image has the size of the input.
        multiple: Input sides must be multiples of this.
        side: ``None``, because the input may have any size.

    Raises:
        UserError: If there are no widths, or one is below 1.
    """

    scale = 1

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        widths = tuple(widths)
        if not widths or min(widths) < 1:
            raise UserError(f"RestorationUNet widths: got {list(widths)}; expected one or more positive numbers")
        self.init_args = {"widths": list(widths)}
        self.multiple = 2 ** (len(widths) - 1)
        self.side: int | None = None
        self.encoder = nn.ModuleList(_TwoConvs(*ends) for ends in zip((3, *widths), widths, strict=False))
        shrinking = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.enlargements = nn.ModuleList(_conv(wide, narrow) for wide, narrow in shrinking)
        self.decoder = nn.ModuleList(_TwoConvs(2 * narrow, narrow) for _, narrow in shrinking)
        self.last = _conv(widths[0], 3)

    def forward(self, lq: Tensor) -> Tensor:
        """Restore images.

        Args:
            lq: (N, 3, h, w) in [0, 1], sides multiples of ``multiple``.

        Returns:
            (N, 3, h, w), about [0, 1], not clamped: the input plus the predicted residual.
        """
        features, skips = self.encoder[0](lq), []
        for level in self.encoder[1:]:
            skips.append(features)
            features = level(F.avg_pool2d(features, 2))
        for enlarge, level in zip(self.enlargements, self.decoder, strict=True):
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
            features = level(torch.cat([skips.pop(), enlarge(features)], dim=1))
        return lq + self.last(features)


def build_unet(tensors: dict[str, Tensor]) -> RestorationUNet:
    """Build a RestorationUNet with random weights, in the sizes of the given weights, which contain ``SIGNS``."""
    levels = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("encoder."))
    return RestorationUNet([tensors[f"encoder.{level}.conv1.weight"].shape[0] for level in range(levels)])


class _TwoConvs(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(inputs, outputs), _conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x), SLOPE)), SLOPE)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
