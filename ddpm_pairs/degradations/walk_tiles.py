"""Large images: the network sees overlapping tiles; all other computations use the whole image.

Noise, steps and the noised image belong to the whole image. Only the clean prediction of each step is computed in
tiles, which are blended where they overlap. Tiles therefore never diverge, and every step starts from one image.
(MultiDiffusion, Bar-Tal et al. 2023, averages the steps of overlapping views. Here the predictions are blended, and the
margin of a tile, where the network sees the least context, has weight 0.)
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.tensors import to_device

MIN_TILE = 64
"""Smallest side of a tile, in LQ pixels."""

SHARE_OF_OVERLAP = 4
"""Tiles overlap by the longest side divided by this number."""


@dataclass(frozen=True)
class Line:
    """Tiles along one side of an image, all of the same length.

    Attributes:
        length: Length of the image's side.
        side: Length of the tiles.
        starts: First positions of the tiles, increasing from 0 to ``length - side``.
    """

    length: int
    side: int
    starts: list[int]

    def weights(self) -> Tensor:
        """Return the weight of each tile at each position, (tiles, length): the sum over tiles is 1.

        A weight is 0 outside of its tile. Between two tiles, weights change linearly over the middle half of the
        overlap.
        """
        passed = torch.ones(len(self.starts) + 1, self.length)  # share that has passed from tile n - 1 to tile n
        for n, start in enumerate(self.starts[1:], start=1):
            shared = self.starts[n - 1] + self.side - start
            position = (torch.arange(self.length) - start + 0.5) / shared
            passed[n] = (2 * position - 0.5).clamp(0, 1)
        passed[-1] = 0
        return passed[:-1] - passed[1:]


def tile_side(tile: int, multiple: int) -> int:
    """Return the longest side of a tile: ``tile`` rounded down to a multiple of ``multiple``, at least two of them."""
    return max(tile // multiple, 2) * multiple


def lay_out(length: int, tile: int, multiple: int) -> Line:
    """Cover one side of an image with the smallest number of tiles of equal length.

    Args:
        length: Length of the side, a multiple of ``multiple``.
        tile: Tiles are not longer than ``tile_side`` of this.
        multiple: Tiles begin and end at multiples of this, so that the network's internal grid is the same in all.
    """
    longest = tile_side(tile, multiple)
    if length <= longest:
        return Line(length, length, [0])
    overlap = -(-longest // SHARE_OF_OVERLAP // multiple) * multiple
    count = -(-(length - overlap) // (longest - overlap))
    side = -(-(length + (count - 1) * overlap) // (count * multiple)) * multiple
    rest = (length - side) // multiple
    return Line(length, side, [n * rest // (count - 1) * multiple for n in range(count)])


class TiledDenoiser:
    """A denoiser for one large image that works tile by tile, and is called like a ``Denoiser``.

    The network always receives ``slots`` tiles; the last one is repeated if fewer are left. Memory therefore does not
    grow with the image, and the result depends only on the image.

    Args:
        denoiser: The trained DDPM.
        size: (height, width) of the image, LQ px, multiples of the denoiser's ``multiple``.
        tile: Longest side of a tile, LQ px.
        slots: Number of tiles that the network processes together.
        device: The device of the image.
    """

    def __init__(
        self, denoiser: Denoiser, size: tuple[int, int], tile: int, slots: int, device: torch.device | str = "cpu"
    ) -> None:
        self.denoiser, self.schedule, self.slots = denoiser, denoiser.schedule, slots
        rows, columns = (lay_out(length, tile, denoiser.multiple) for length in size)
        down, across = (to_device(line.weights(), torch.device(device)) for line in (rows, columns))
        self.boxes = [
            (slice(top, top + rows.side), slice(left, left + columns.side))
            for top in rows.starts
            for left in columns.starts
        ]
        pairs = itertools.product(down, across)
        self.weights = [
            one[high, None] * other[wide] for (one, other), (high, wide) in zip(pairs, self.boxes, strict=True)
        ]

    def __call__(self, x_t: Tensor, index: Tensor) -> Tensor:
        """Predict the clean image.

        Args:
            x_t: The noised image, (1, 3, H, W), float32.
            index: Its table index, (1,), int64.

        Returns:
            (1, 3, H, W), float32 in [-1, 1].
        """
        total = torch.zeros_like(x_t)
        for first in range(0, len(self.boxes), self.slots):
            boxes = self.boxes[first : first + self.slots]
            filled = boxes + boxes[-1:] * (self.slots - len(boxes))
            clean = self.denoiser(torch.cat([x_t[:, :, high, wide] for high, wide in filled]), index.expand(self.slots))
            for n, (high, wide) in enumerate(boxes):
                total[0, :, high, wide] += clean[n] * self.weights[first + n]
        return total
