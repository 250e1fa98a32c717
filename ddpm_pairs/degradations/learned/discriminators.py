"""Patch discriminators that see the image or its high frequencies only."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ddpm_pairs.degradations.ops.bands import BOX_SIDE, box_high, gaussian_high, haar
from ddpm_pairs.errors import UserError
from ddpm_pairs.training.ranks import BatchNorm2d

SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Convolutions of stride 1 that give each patch a logit of being real.

    With its defaults, it is DSGAN's (1.03 M parameters); DASR's has ``view="haar"`` and ``norm="instance"`` (1.04 M);
    PDM's sees the image through three layers of 64 channels with instance normalization.

    Args:
        view: ``box``: the image minus its box average; ``gaussian``: the image minus its Gaussian average of 9x9;
            ``haar``: the three high bands of the Haar wavelet, side by side as channels; all three are mapped by
            0.5 x + 0.5. ``image``: the image.
        widths: Channels of the convolutions.
        side: Side of their kernels, odd.
        norm: Normalization after all convolutions but the first: ``batch``, ``instance``, or ``none``.
        window: Side of the box average in pixels, odd.

    Attributes:
        multiple: Input sides must be multiples of this.
        radius: Radius of a patch in pixels of the view, which ``haar`` halves.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        view: Literal["box", "gaussian", "haar", "image"] = "box",
        widths: tuple[int, ...] = (64, 128, 256),
        side: int = 5,
        norm: Literal["batch", "instance", "none"] = "batch",
        window: int = BOX_SIDE,
    ) -> None:
        super().__init__()
        box = partial(_box, side=window)
        views = {"box": (box, 3, 1), "gaussian": (_gaussian, 3, 1), "haar": (_haar, 9, 2), "image": (_image, 3, 1)}
        norms = {"batch": BatchNorm2d, "instance": nn.InstanceNorm2d, "none": nn.Identity}
        for name, value, known in (("view", view, views), ("norm", norm, norms)):
            if value not in known:
                raise UserError(f"--model.discriminator.{name}: got {value!r}; expected {', '.join(known)}")
        if not widths or min(widths) < 1:
            raise UserError(f"--model.discriminator.widths: got {list(widths)}; expected one or more positive numbers")
        for name, value, least in (("side", side, 1), ("window", window, 3)):
            if value < least or value % 2 == 0:
                raise UserError(f"--model.discriminator.{name}: got {value}; expected an odd number from {least}")
        self.view, channels, self.multiple = views[view]
        layers, before = [], channels
        for number, width in enumerate(widths):
            layers.append(nn.Conv2d(before, width, side, padding=side // 2))
            if number:
                layers.append(norms[norm](width))
            layers.append(nn.LeakyReLU(SLOPE))
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 1))
        self.radius = len(widths) * (side // 2)

    def forward(self, images: Tensor) -> Tensor:
        """Classify patches.

        Args:
            images: (N, 3, H, W), nominally in [0, 1], sides multiples of ``multiple``.

        Returns:
            (N, 1, H / multiple, W / multiple), the logit of the patch around each position being real.
        """
        return self.layers(self.view(images))


def _image(images: Tensor) -> Tensor:
    return images


def _box(images: Tensor, side: int) -> Tensor:
    return 0.5 * box_high(images, side) + 0.5


def _gaussian(images: Tensor) -> Tensor:
    return 0.5 * gaussian_high(images) + 0.5


def _haar(images: Tensor) -> Tensor:
    return 0.5 * torch.cat(haar(images)[1:], dim=1) + 0.5
