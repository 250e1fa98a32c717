"""Networks of equal size for `benchmarks/train_step.py`: ours, and the peers' own."""

import bisect
from collections.abc import Callable

import torch
from diffusers import UNet2DModel
from torch import nn

NETWORKS = {
    "small": {"channels": [32, 64, 96, 128], "layers_per_block": 1, "attention_levels": [], "norm_groups": 8},
    "paper": {"channels": [64, 64, 128, 256, 512]},
}
"""Networks of ``ddpm_small.yaml`` and ``ddpm.yaml``."""

_WIDTHS: dict[tuple[str, int], int] = {}


def equal_unet(parameters: int) -> nn.Module:
    """Build denoising-diffusion-pytorch's ``Unet`` as in its README, at the width with the closest parameter count."""
    from denoising_diffusion_pytorch import Unet

    def build(width: int) -> nn.Module:
        return Unet(dim=width, dim_mults=(1, 2, 4, 8))

    return build(nearest("unet", build, range(8, 129, 2), parameters))


def equal_example(parameters: int) -> UNet2DModel:
    """Build the ``UNet2DModel`` of diffusers' example, at the width with the closest parameter count."""

    def build(width: int) -> UNet2DModel:
        return UNet2DModel(
            layers_per_block=2,
            block_out_channels=[width * factor for factor in (1, 1, 2, 2, 4, 4)],
            down_block_types=[*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
            up_block_types=["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
            norm_num_groups=next(groups for groups in (32, 16, 8, 4, 2) if width % groups == 0),
        )

    return build(nearest("example", build, range(8, 129, 2), parameters))


def nearest(name: str, build: Callable[[int], nn.Module], widths: range, parameters: int) -> int:
    """Return the width at which ``build`` gives the closest number of parameters.

    Args:
        name: Name of the network; results are cached by name and number of parameters.
        build: Builds the network of a width.
        widths: Widths to choose from. The number of parameters grows with the width.
        parameters: Target number of parameters.
    """

    def size(width: int) -> int:
        with torch.device("meta"):
            return size_of(build(width))

    if (name, parameters) not in _WIDTHS:
        after = bisect.bisect_left(widths, parameters, hi=len(widths) - 1, key=size)
        neighbors = widths[max(after - 1, 0) : after + 1]
        _WIDTHS[name, parameters] = min(neighbors, key=lambda width: abs(size(width) - parameters))
    return _WIDTHS[name, parameters]


def size_of(net: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(weight.numel() for weight in net.parameters())
