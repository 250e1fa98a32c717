"""Cut flat patches from real LQ images: what varies in them is noise."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.degradations.ops.noise import luminance

STEP = 8
"""Patches begin at multiples of this in px, so that JPEG blocks keep their place in them."""


def flat_patches(image: Tensor, side: int, variance: float, mean: float, most: int, seed: int) -> Tensor:
    """Cut patches whose luminance varies little.

    A patch with black or white samples is not used: its noise is cut off, and areas of one color would bring patches
    without any noise.

    Args:
        image: (3, H, W), uint8.
        side: Side of the patches, px.
        variance: Limit of the variance of luminance in a patch, in squared 8-bit levels.
        mean: Limit above which the mean of luminance must be, in 8-bit levels.
        most: Maximum number of patches, drawn at random; no two overlap by more than half a side in both directions.
        seed: Seed of the choice.

    Returns:
        (n, 3, side, side), uint8; n is 0 if there is no such patch.
    """
    if min(image.shape[1:]) < side:
        return image.new_empty(0, 3, side, side)
    gray = luminance(image.double())
    cut = ((image == 0) | (image == 255)).any(dim=0, keepdim=True).double()
    average, square, clipped = F.avg_pool2d(torch.stack([gray, gray**2, cut]), side, STEP)
    flat = (square - average**2 < variance) & (average > mean) & (clipped == 0)
    candidates = flat[0].nonzero().mul(STEP).tolist()
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen: list[list[int]] = []
    for row, column in (candidates[place] for place in order):
        if len(chosen) == most:
            break
        if all(max(abs(row - top), abs(column - left)) >= side // 2 for top, left in chosen):
            chosen.append([row, column])
    patches = [image[:, top : top + side, left : left + side] for top, left in chosen]
    return torch.stack(patches) if patches else image.new_empty(0, 3, side, side)
