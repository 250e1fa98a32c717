"""Run a convolutional network on a large image in tiles, with the result of the whole image."""

from collections.abc import Callable

import torch
from torch import Tensor


def in_tiles(net: Callable[[Tensor], Tensor], images: Tensor, tile: int, halo: int, scale: int = 1) -> Tensor:
    """Apply a network tile by tile; each tile is computed with a margin that is cut off afterwards.

    If the margin is at least the radius of the receptive field, the result differs from that of the whole image only by
    rounding. Borders of the image stay borders of tiles, so the network pads there as it does without tiles.

    Args:
        net: A network without random numbers and without statistics of the whole image.
        images: (N, C, H, W), sides multiples of ``scale``.
        tile: Side of a tile in input pixels, a multiple of ``scale``; images that are not larger are computed at once.
        halo: Width of the margin in input pixels, a multiple of ``scale``.
        scale: Input sides over output sides.

    Returns:
        (N, K, H / scale, W / scale).
    """
    height, width = images.shape[-2:]
    if max(height, width) <= tile:
        return net(images)
    rows = []
    for top in range(0, height, tile):
        row = []
        for left in range(0, width, tile):
            above, before = min(halo, top), min(halo, left)
            part = images[..., top - above : top + tile + halo, left - before : left + tile + halo]
            y, x = above // scale, before // scale
            down, across = min(tile, height - top) // scale, min(tile, width - left) // scale
            row.append(net(part)[..., y : y + down, x : x + across])
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)
