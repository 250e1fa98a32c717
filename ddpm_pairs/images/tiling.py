"""Restore images of any size; large ones in overlapping tiles."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.images.pixels import pad_by_reflection

_DISCOURAGED = (
    "this network uses the whole image, so results differ between tiles; if memory allows, set --model.tile null"
)


@torch.no_grad()
def restore_picture(net: nn.Module, lq: Tensor, tile: int | None = None, overlap: int = 32) -> Tensor:
    """Restore one image.

    The image is padded by reflection, at the bottom and on the right, to the network's multiple. All tiles have the
    same size. The outer quarter of each overlap, which has the least context, is dropped, and the rest is blended
    linearly.

    Measured differences between tiled and untiled results, mean and maximum in levels of 255:

    * RRDBNet (nf 32, nb 3) after 100 iterations on Real-ESRGAN's degradation, tiles of 64 px, the worse of two
      photographs: 1.1 and 146 without overlap, 0.009 and 1.0 with an overlap of 8 px, 0.0001 and 0.01 with 16 px, and
      less with 32 px.
    * RRDBNet of the official size, untrained, with its output scaled to a standard deviation of 0.25, tiles of 48 px,
      one photograph: 0.14 and 17 with an overlap of 8 px, 0.0001 and 0.01 with 16 px.

    Fully trained weights were not measured.

    Args:
        net: A restoration network, with the attributes ``scale``, ``multiple`` and ``side``. Its attribute ``tiling``,
            if it has one, can be ``discouraged`` (a warning is shown when an image is tiled) or ``internal`` (the
            network tiles images itself, so it always gets them whole).
        lq: (3, h, w) in [0, 1], on the network's device.
        tile: Side of a tile in LQ pixels, rounded up to the network's multiple; ``None`` disables tiling.
        overlap: Minimum overlap of neighboring tiles in LQ pixels.

    Returns:
        (3, h * scale, w * scale), not clamped.

    Raises:
        ValueError: If the network supports only another image size, or the tile is not larger than the overlap.
    """
    height, width = lq.shape[1:]
    if net.side is not None:
        if (height, width) != (net.side, net.side):
            raise ValueError(
                f"got an image of {width}x{height} px; expected {net.side}x{net.side} px, the only size of this network"
            )
        return net(lq[None])[0]
    if tile is not None and not 0 <= overlap < tile:
        raise ValueError(
            f"got tile {tile} and overlap {overlap}; expected a tile larger than the overlap, which is 0 or more"
        )
    multiple, scale = net.multiple, net.scale
    padded = _pad(lq[None], -height % multiple, -width % multiple)
    tiling = getattr(net, "tiling", "supported")
    if tile is None or max(height, width) <= tile or tiling == "internal":
        restored = net(padded)[0]
    else:
        if tiling == "discouraged":
            warnings.warn(_DISCOURAGED, stacklevel=2)
        side = tile + -tile % multiple
        restored = _restore_tiles(net, padded, side, overlap + -overlap % multiple if overlap else 0)
    return restored[:, : height * scale, : width * scale]


def tile_starts(length: int, side: int, overlap: int) -> list[int]:
    """Return the start positions of tiles of ``side`` that cover ``length`` and overlap by ``overlap`` or more."""
    if length <= side:
        return [0]
    return [*range(0, length - side, side - overlap), length - side]


def _restore_tiles(net: nn.Module, lq: Tensor, side: int, overlap: int) -> Tensor:
    scale, (height, width) = net.scale, lq.shape[-2:]
    rows, columns = tile_starts(height, side, overlap), tile_starts(width, side, overlap)
    total = lq.new_zeros(3, height * scale, width * scale)
    weights = lq.new_zeros(1, height * scale, width * scale)
    for top in rows:
        for left in columns:
            part = lq[..., top : top + side, left : left + side]
            restored = net(part)[0]
            weight = torch.outer(
                _weight(part.shape[-2], overlap, top > 0, top + side < height, scale).to(lq),
                _weight(part.shape[-1], overlap, left > 0, left + side < width, scale).to(lq),
            )
            place = (
                slice(None),
                slice(top * scale, (top + side) * scale),
                slice(left * scale, (left + side) * scale),
            )
            total[place] += restored * weight
            weights[place] += weight
    return total / weights


def _weight(length: int, overlap: int, before: bool, after: bool, scale: int) -> Tensor:
    """Weight of a tile along one axis: 1, decreasing to 0 within the overlap with a neighbor."""
    weight = torch.ones(length * scale)
    if overlap == 0:
        return weight
    position = (torch.arange(overlap * scale) + 0.5) / (overlap * scale)
    ramp = (position * 2 - 0.5).clamp(0, 1)
    if before:
        weight[: len(ramp)] *= ramp
    if after:
        weight[-len(ramp) :] *= ramp.flip(0)
    return weight


def _pad(lq: Tensor, below: int, right: int) -> Tensor:
    if below == right == 0:
        return lq
    height, width = lq.shape[-2:]
    if below < height and right < width:
        return F.pad(lq, (0, right, 0, below), mode="reflect")
    margin = max(below, right)  # an image smaller than the padding is reflected several times
    padded = pad_by_reflection(lq, margin)
    return padded[..., margin : margin + height + below, margin : margin + width + right]
