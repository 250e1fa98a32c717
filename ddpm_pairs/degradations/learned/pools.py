"""RealSR's pools: blur kernels and noise patches of real images (Ji et al., NTIRE 2020), drawn independently."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.degradations.learned.synthesizer import Synthesizer
from ddpm_pairs.degradations.ops.draws import seed as draw_seed
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import pad_by_reflection
from ddpm_pairs.tensors import to_device

OVERLAP = 8
"""Width in px of the band in which neighboring noise patches fade into each other."""


class RealSR(Synthesizer):
    """Blur HQ with a kernel of the pool, keep every ``scale``-th pixel, and add noise of the pool.

    ``ddpm-pairs pools`` fills the pools. ``training`` of the file lists the source image of each kernel and patch.

    Args:
        scale: HQ sides over LQ sides.
        kernels: Number of kernels.
        kernel_side: Side of the kernels in px; even or odd as ``scale`` is, so that LQ is aligned with HQ.
        patches: Number of noise patches.
        patch_side: Side of the patches in px, a multiple of 8 from 16.

    Attributes:
        kernels: (kernels, kernel_side, kernel_side), each sums to 1, with its center of mass in the middle.
        patches: (patches, 3, patch_side, patch_side), uint8: pixels of flat areas; less their mean, they are noise.
        sources: (patches,) int64: patches of the same image have the same number.

    Raises:
        UserError: If a number is out of range.
    """

    name = "realsr"

    def __init__(self, scale: int, kernels: int, kernel_side: int, patches: int, patch_side: int) -> None:
        for option, value in (("scale", scale), ("kernels", kernels), ("patches", patches)):
            if value < 1:
                raise UserError(f"RealSR.{option}: got {value}; expected 1 or more")
        if kernel_side < scale or (kernel_side - scale) % 2:
            raise UserError(f"RealSR.kernel_side: got {kernel_side}; expected {scale} plus an even number")
        if patch_side < 2 * OVERLAP or patch_side % OVERLAP:
            raise UserError(
                f"RealSR.patch_side: got {patch_side}; expected a multiple of {OVERLAP}, {2 * OVERLAP} or more"
            )
        sizes = {"kernels": kernels, "kernel_side": kernel_side, "patches": patches, "patch_side": patch_side}
        super().__init__(scale, {"scale": scale, **sizes})
        self.register_buffer("kernels", torch.zeros(kernels, kernel_side, kernel_side))
        self.register_buffer("patches", torch.zeros(patches, 3, patch_side, patch_side, dtype=torch.uint8))
        self.register_buffer("sources", torch.zeros(patches, dtype=torch.int64))

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the index of a kernel, the index of a noise patch, and a seed for the arrangement of the noise."""
        kernel, noise = (
            int(torch.randint(count, (), generator=generator)) for count in (len(self.kernels), len(self.patches))
        )
        return {"kernel": kernel, "noise": noise, "noise_seed": draw_seed(generator)}

    def synthesize(self, hq: Tensor, parameters: dict[str, Any]) -> Tensor:
        """Degrade an image; see ``Synthesizer.synthesize``."""
        lq = blur_and_decimate(hq, self.kernels[parameters["kernel"]], self.scale)
        alike = self.patches[self.sources == self.sources[parameters["noise"]]]
        return lq + lay_noise(alike, tuple(lq.shape[-2:]), parameters["noise_seed"])


def blur_and_decimate(images: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Blur with a kernel, with reflection at the borders, and keep one pixel of each scale x scale cell.

    The middle of the kernel is put on the middle of the cell, so LQ is aligned with HQ.

    Args:
        images: (N, C, H, W), sides multiples of ``scale``.
        kernel: (k, k), k - scale even; the taps of a correlation.
        scale: Side of the cells.

    Returns:
        (N, C, H / scale, W / scale).
    """
    planes = pad_by_reflection(images, (len(kernel) - scale) // 2).flatten(0, 1).unsqueeze(1)
    planes = F.conv2d(planes, kernel[None, None], stride=scale)
    return planes.view(*images.shape[:2], *planes.shape[-2:])


def lay_noise(patches: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    """Lay patches side by side to noise of any size.

    Each cell of a grid gets a random patch, as it is or turned by 180 degrees, with its sign kept or changed; neither
    alters the covariance. Neighbors overlap in a band, in which one fades in as a sine and the other fades out as a
    cosine: their squares sum to one, so the variance is the same everywhere and no seam is visible. The grid is at a
    random multiple of 8 px, so JPEG blocks of the patches keep their place.

    Args:
        patches: (n, 3, s, s), uint8, n of 1 or more.
        size: (height, width) of the result.
        seed: Seed of the arrangement.

    Returns:
        (1, 3, *size), float32 in units of [0, 1], each patch with zero mean per channel.
    """
    device, side = patches.device, patches.shape[-1]
    step = side - OVERLAP
    generator = torch.Generator().manual_seed(seed)
    top, left = (OVERLAP * torch.randint(1, 1 + step // OVERLAP, (2,), generator=generator)).tolist()
    rows, columns = math.ceil((top + size[0]) / step), math.ceil((left + size[1]) / step)
    cells = (rows * columns,)
    chosen = torch.randint(len(patches), cells, generator=generator)
    turned, negative = torch.randint(2, (2, *cells), generator=generator).view(2, -1, 1, 1, 1)
    noise = patches[to_device(chosen, device)].float()
    noise = (noise - noise.mean(dim=(-2, -1), keepdim=True)) / 255
    noise = torch.where(to_device(turned, device).bool(), noise.flip(-2, -1), noise)
    noise = noise * to_device(1.0 - 2.0 * negative, device) * to_device(_window(side), device)
    whole = rows * step + OVERLAP, columns * step + OVERLAP
    laid = F.fold(noise.flatten(1).mT[None], whole, kernel_size=side, stride=step)
    return laid[..., top : top + size[0], left : left + size[1]]


def _window(side: int) -> Tensor:
    """Weights (side, side) of a patch: 1, and at each border a quarter of a sine wave of ``OVERLAP`` px."""
    rise = torch.sin((torch.arange(OVERLAP) + 0.5) * (math.pi / 2 / OVERLAP))
    line = torch.cat([rise, torch.ones(side - 2 * OVERLAP), rise.flip(0)])
    return line[:, None] * line[None, :]
