"""RRDBNet, the generator of ESRGAN and Real-ESRGAN."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.errors import UserError

UNSHUFFLE = {1: 4, 2: 2, 4: 1}
"""Factor of the pixel unshuffle before the trunk, by scale; after the trunk, the network upscales by 4."""

SLOPE = 0.2
"""Slope of every leaky ReLU, and weight of every residual branch."""


class RRDBNet(nn.Module):
    """Residual-in-residual dense blocks (ESRGAN, arXiv 1809.00219; x1 and x2 as in Real-ESRGAN, arXiv 2107.10833).

    The weights have their official names and shapes, so Real-ESRGAN and this package read each other's files.

    Args:
        scale: Output side over input side: 1, 2, or 4.
        nf: Channels of the trunk.
        nb: Number of blocks.
        gc: Channels that each convolution of a dense block adds (growth).

    Attributes:
        multiple: Input sides must be multiples of this.
        side: ``None``, because the input may have any size.

    Raises:
        UserError: If ``scale`` is not 1, 2, or 4, or another number is below 1.
    """

    def __init__(self, scale: int = 4, nf: int = 64, nb: int = 23, gc: int = 32) -> None:
        super().__init__()
        if scale not in UNSHUFFLE:
            raise UserError(f"RRDBNet scale: got {scale}; expected 1, 2, or 4")
        for name, value in (("nf", nf), ("nb", nb), ("gc", gc)):
            if value < 1:
                raise UserError(f"RRDBNet {name}: got {value}; expected 1 or more")
        self.init_args = {"scale": scale, "nf": nf, "nb": nb, "gc": gc}
        self.scale, self.multiple = scale, UNSHUFFLE[scale]
        self.side: int | None = None
        self.conv_first = _conv(3 * self.multiple**2, nf)
        self.body = nn.Sequential(*(_Block(nf, gc) for _ in range(nb)))
        self.conv_body = _conv(nf, nf)
        self.conv_up1 = _conv(nf, nf)
        self.conv_up2 = _conv(nf, nf)
        self.conv_hr = _conv(nf, nf)
        self.conv_last = _conv(nf, 3)

    def forward(self, lq: Tensor) -> Tensor:
        """Restore images.

        Args:
            lq: (N, 3, h, w) in [0, 1], sides multiples of ``multiple``.

        Returns:
            (N, 3, h * scale, w * scale), about [0, 1], not clamped.
        """
        first = self.conv_first(F.pixel_unshuffle(lq, self.multiple))
        features = first + self.conv_body(self.body(first))
        for enlarge in (self.conv_up1, self.conv_up2):
            features = F.leaky_relu(enlarge(F.interpolate(features, scale_factor=2, mode="nearest")), SLOPE)
        return self.conv_last(F.leaky_relu(self.conv_hr(features), SLOPE))


class _Block(nn.Module):
    """Three dense blocks in sequence with a residual connection."""

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (_DenseBlock(nf, gc) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return x + SLOPE * self.rdb3(self.rdb2(self.rdb1(x)))


class _DenseBlock(nn.Module):
    """Five convolutions, each applied to the input and the outputs of all previous ones."""

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        for number in range(1, 6):
            conv = _conv(nf + (number - 1) * gc, gc if number < 5 else nf)
            nn.init.kaiming_normal_(conv.weight)
            with torch.no_grad():
                conv.weight.mul_(0.1)
            nn.init.zeros_(conv.bias)
            self.add_module(f"conv{number}", conv)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(F.leaky_relu(conv(torch.cat(seen, dim=1)), SLOPE))
        return x + SLOPE * self.conv5(torch.cat(seen, dim=1))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
