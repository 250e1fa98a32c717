"""Large pictures: the network sees overlapping tiles, everything else the whole picture.

Noise, steps and the noised picture itself belong to the whole picture; only the clean prediction of each step is put
together from tiles, blended where they overlap. So tiles never drift apart, and the next step starts from one picture.
(MultiDiffusion, Bar-Tal et al. 2023, joins the steps of overlapping views by their mean; here it is the predictions,
and the margin of a tile, which saw least of its surroundings, counts for nothing.)
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_pairs.devices import to_device
from ddpm_pairs.diffusion.denoiser import Denoiser

SHARE_OF_OVERLAP = 4
"""Tiles overlap by their longest side over this."""


@dataclass(frozen=True)
class Line:
    """Tiles along one side of a picture, all of one length.

    Attributes:
        length: Of the picture's side.
        side: Of the tiles.
        starts: Where the tiles begin, rising from 0 to ``length - side``.
    """

    length: int
    side: int
    starts: list[int]

    def weights(self) -> Tensor:
        """What each tile counts at each place, (tiles, length): its sum over the tiles is 1, outside a tile it is 0.

        Between two tiles it passes linearly from the one to the other in the middle half of what they share.
        """
        passed = torch.ones(len(self.starts) + 1, self.length)  # how far the line has passed on to tile n
        for n, start in enumerate(self.starts[1:], start=1):
            shared = self.starts[n - 1] + self.side - start
            position = (torch.arange(self.length) - start + 0.5) / shared
            passed[n] = (2 * position - 0.5).clamp(0, 1)
        passed[-1] = 0
        return passed[:-1] - passed[1:]


def tile_side(tile: int, multiple: int) -> int:
    """The longest side of a tile: ``tile``, as far as the network's multiple allows, and two multiples at least."""
    return max(tile // multiple, 2) * multiple


def lay_out(length: int, tile: int, multiple: int) -> Line:
    """Cover one side of a picture with as few equally long tiles as possible.

    Args:
        length: A multiple of ``multiple``.
        tile: Tiles are no longer than ``tile_side`` of this.
        multiple: The tiles begin and end at multiples of this, so that the network's own grid is the same in all.
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
    """A denoiser for one large picture, tile by tile; it takes the place of a ``Denoiser``.

    The network always gets ``slots`` tiles, the last ones repeated where fewer are left: its memory does not grow with
    the picture, and the result depends on the picture alone.

    Args:
        denoiser: The trained DDPM.
        size: (height, width) of the picture, LQ px, multiples of the denoiser's ``multiple``.
        tile: Longest side of a tile, LQ px.
        slots: Tiles that go through the network together.
        device: Where the picture is.
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
        """Clean prediction of the picture.

        Args:
            x_t: (1, 3, H, W), float32.
            index: Its table index, (1,), int64.
        """
        total = torch.zeros_like(x_t)
        for first in range(0, len(self.boxes), self.slots):
            boxes = self.boxes[first : first + self.slots]
            filled = boxes + boxes[-1:] * (self.slots - len(boxes))
            clean = self.denoiser(torch.cat([x_t[:, :, high, wide] for high, wide in filled]), index.expand(self.slots))
            for n, (high, wide) in enumerate(boxes):
                total[0, :, high, wide] += clean[n] * self.weights[first + n]
        return total
