"""The denoiser of noise-space adaptation: the project's U-Net, conditional on images and a continuous noise level."""

from collections.abc import Sequence

import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor, nn

from ddpm_pairs.diffusion.denoiser import UNet, check_widths
from ddpm_pairs.errors import UserError

IMAGES = 3
"""The noised image and two conditions."""


class ConditionalUNet(UNet):
    """Predict the noise of an image, given two restored images (Noise-DA, arXiv 2406.18516).

    The structure is that of guided diffusion: the noise level scales and shifts the features in every residual block,
    residual blocks change the resolution, and only the middle block attends. The defaults have 62.64 million
    parameters, as published. Instead of a step, the network gets the signal level itself, gamma in [0, 1].

    As in the paper, all convolutions start with Kaiming's normal initialization, those that end a residual block too.
    diffusers does not recompute activations to save memory, as the authors do in the middle block.

    Args:
        channels: Width of each level, starting at full resolution; each level halves the resolution.
        layers_per_block: Residual blocks per level (one more in the decoder).
        attention: Whether the middle block attends over all positions.
        head_dim: Channels per attention head.
        norm_groups: Groups of each GroupNorm; must divide every width.
        dropout: Probability of setting a feature to 0 in training.
        patch: Side of the blocks of pixels that are folded into channels before the first level, 1 in the paper. 4
            makes a step on a CPU several times as fast; the first width should then be at least 48, the number of
            values in a block.

    Raises:
        UserError: If a width is not divisible by ``norm_groups``, or ``patch`` is below 1.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512),
        layers_per_block: int = 2,
        attention: bool = True,
        head_dim: int = 32,
        norm_groups: int = 32,
        dropout: float = 0.2,
        patch: int = 1,
    ) -> None:
        if patch < 1:
            raise UserError(f"ConditionalUNet patch: got {patch}; expected 1 or more")
        channels = tuple(channels)
        check_widths(channels, norm_groups)
        UNet2DModel.__init__(
            self,
            in_channels=3 * IMAGES * patch**2,
            out_channels=3 * patch**2,
            layers_per_block=layers_per_block,
            block_out_channels=channels,
            down_block_types=("ResnetDownsampleBlock2D",) * len(channels),
            up_block_types=("ResnetUpsampleBlock2D",) * len(channels),
            resnet_time_scale_shift="scale_shift",
            attention_head_dim=head_dim,
            norm_num_groups=norm_groups,
            add_attention=attention,
            dropout=dropout,
        )
        if attention:  # diffusers leaves out its normalization if levels scale and shift; guided diffusion has it
            self.mid_block.attentions[0].group_norm = nn.GroupNorm(norm_groups, channels[-1])
        self.apply(_initialize)
        self.patch = patch

    @property
    def multiple(self) -> int:
        """Sides of the images must be multiples of this."""
        return super().multiple * self.patch

    def forward(self, images: Tensor, gamma: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            images: (N, 9, H, W), the noised image and the two conditions.
            gamma: Signal levels (N,) in [0, 1].

        Returns:
            (N, 3, H, W).
        """
        return F.pixel_shuffle(super().forward(F.pixel_unshuffle(images, self.patch), gamma), self.patch)


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
