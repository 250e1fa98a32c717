"""GPEN (Yang et al. 2021): an encoder whose features control the decoder, which is a GAN prior."""

import torch
from torch import Tensor, nn

from ddpm_pairs.layers.stylegan2 import EqualLinear, channels_at, conv_layer
from ddpm_pairs.restoration.networks.gpen.decoder import STYLE_DIM, StyleDecoder
from ddpm_pairs.restoration.weight_files import MisfitError

SIGNS = {"ecd0.0.0.weight", "generator.input.input", "generator.to_rgb1.conv.weight"}
"""Weights that identify a GPEN and its sizes."""

WIDTH_TIMES_SIDE = 16384
"""The encoder has 16384 * channel_multiplier * narrow / side channels at sides of 64 px and more."""


class GPEN(nn.Module):
    """Restore aligned square faces of one size.

    The encoder's deepest features become the code z. Its features at each resolution replace the decoder's noise at
    that resolution. The weights have the same names as in the released files.

    Args:
        size: Side of the images, a power of two from 16 to 2048.
        channel_multiplier: Factor of the widths at 64 px and above.
        narrow: Factor of all widths.
        isconcat: Concatenate features with the decoder's channels (GPEN) instead of adding them (StyleGAN2).

    Attributes:
        scale: Output side over input side, always 1.
        multiple: Input sides must be multiples of this, which is ``size``.
        side: The only input side.

    Raises:
        UserError: If ``size`` is not a power of two from 16 to 2048, or ``narrow`` leaves no channels.
    """

    scale = 1

    def __init__(
        self, size: int = 512, channel_multiplier: int = 2, narrow: float = 1.0, isconcat: bool = True
    ) -> None:
        super().__init__()
        self.side = self.multiple = size
        widths = list(channels_at(size, channel_multiplier, narrow).values())[::-1]
        self.stages = len(widths)
        self.ecd0 = nn.Sequential(conv_layer(3, widths[0], 1))
        for stage in range(1, self.stages):
            self.add_module(f"ecd{stage}", nn.Sequential(conv_layer(widths[stage - 1], widths[stage], 3, down=True)))
        self.final_linear = nn.Sequential(EqualLinear(widths[-1] * 16, STYLE_DIM, activate=True))
        self.generator = StyleDecoder(size, channel_multiplier, narrow, isconcat)

    def forward(self, lq: Tensor) -> Tensor:
        """Restore faces.

        Args:
            lq: (N, 3, size, size) in [0, 1].

        Returns:
            (N, 3, size, size), nominally in [0, 1], not clamped.

        Raises:
            ValueError: If ``lq`` has another size.
        """
        return self.restore_with_latents(lq)[0]

    def restore_with_latents(self, lq: Tensor) -> tuple[Tensor, Tensor]:
        """Return the result of ``forward`` and the w's (N, latents, 512), for path-length regularization."""
        if lq.shape[2:] != (self.side, self.side):
            raise ValueError(f"lq: got images of {lq.shape[3]}x{lq.shape[2]} px; expected {self.side}x{self.side} px")
        features, z = self.encode(lq * 2 - 1)
        latents = self.generator.copies(self.generator.style(z))
        return (self.generator.decode(latents, features) + 1) / 2, latents

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute features and code.

        Args:
            x: (N, 3, size, size) in [-1, 1].

        Returns:
            Features (N, width, side, side), one tensor per side 4, 8, ..., size; and z (N, 512).
        """
        features = []
        for stage in range(self.stages):
            x = getattr(self, f"ecd{stage}")(x)
            features.append(x)
        return features[::-1], self.final_linear(torch.flatten(x, 1))


def build_gpen(tensors: dict[str, Tensor]) -> GPEN:
    """Build a GPEN with random weights, in the sizes of the given weights.

    Args:
        tensors: Weights with the released names, which include ``SIGNS``.

    Raises:
        MisfitError: If the network enlarges its input.
        UserError: If the sizes are not those of a GPEN.
    """
    stages = len({name.split(".")[0] for name in tensors if name.startswith("ecd")})
    size = 2 ** (stages + 1)
    output = 4 * 2 ** len({name.split(".")[2] for name in tensors if name.startswith("generator.to_rgbs.")})
    if output != size:
        raise MisfitError(
            f"GPEN's FullGenerator_SR, which restores {size} px to {output} px; expected a GPEN with equal sides "
            "(FullGenerator)"
        )
    smallest = tensors["generator.input.input"].shape[1]
    narrow = smallest / 512
    width = tensors["ecd0.0.0.weight"].shape[0]
    # the multiplier does not affect widths up to 32 px
    multiplier = max(1, round(width * size / (WIDTH_TIMES_SIDE * narrow))) if size >= 64 else 2
    isconcat = tensors["generator.to_rgb1.conv.weight"].shape[2] == 2 * smallest
    arguments = {"size": size, "channel_multiplier": multiplier, "narrow": narrow, "isconcat": isconcat}
    net = GPEN(**arguments)
    net.init_args = arguments
    return net
