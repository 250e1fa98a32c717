"""Networks of equal size for `benchmarks/train_step.py`: ours, and those that the peers' users get."""

import bisect
from collections.abc import Callable

import torch
from diffusers import UNet2DModel
from torch import nn

NETWORKS = {
    "small": {"channels": [32, 64, 96, 128], "layers_per_block": 1, "attention_levels": [], "norm_groups": 8},
    "paper": {"channels": [64, 64, 128, 256, 512]},
}
"""Those of ``ddpm_small.yaml`` and ``ddpm.yaml``."""

_WIDTHS: dict[tuple[str, int], int] = {}


def equal_unet(parameters: int) -> nn.Module:
    """denoising-diffusion-pytorch's ``Unet`` as in its README, at the width whose parameters come nearest."""
    from denoising_diffusion_pytorch import Unet

    def build(width: int) -> nn.Module:
        return Unet(dim=width, dim_mults=(1, 2, 4, 8))

    return build(nearest("unet", build, range(8, 129, 2), parameters))


def equal_example(parameters: int) -> UNet2DModel:
    """The ``UNet2DModel`` of diffusers' example, at the width whose parameters come nearest."""

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
    """The width at which ``build`` gives the number of parameters that comes nearest.

    Args:
        name: Of the network; an answer is kept by name and number.
        build: From a width to the network.
        widths: What to choose among. The number of parameters grows with the width.
        parameters: The number wanted.
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
    """Number of parameters."""
    return sum(weight.numel() for weight in net.parameters())
