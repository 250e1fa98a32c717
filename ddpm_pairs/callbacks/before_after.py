"""A few pictures before and after restoration, the same few however ranks share the work."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from ddpm_pairs.seeding import seed_of

SIDE = 256
"""HQ pixels a side that are kept of a picture, from its centre."""


@dataclass(frozen=True)
class BeforeAfter:
    """The centre of one picture.

    Attributes:
        key: The picture's key.
        lq: uint8 (3, h, w).
        restored: uint8 (3, H, W).
        hq: uint8 (3, H, W).
    """

    key: str
    lq: Tensor
    restored: Tensor
    hq: Tensor


def centre(key: str, lq: Tensor, restored: Tensor, hq: Tensor) -> BeforeAfter:
    """Cut the centres of uint8 pictures, the same content from LQ (3, h, w), restored and HQ (both (3, H, W))."""
    small, large = [], []
    for side_lq, side in zip(lq.shape[1:], hq.shape[1:], strict=True):
        shown = min(side_lq, max(1, SIDE * side_lq // side))
        start = (side_lq - shown) // 2
        small.append(slice(start, start + shown))
        large.append(slice(round(start * side / side_lq), round((start + shown) * side / side_lq)))
    cuts = (lq[:, small[0], small[1]], restored[:, large[0], large[1]], hq[:, large[0], large[1]])
    return BeforeAfter(key, *(cut.cpu().clone() for cut in cuts))


def chosen(pictures: list[BeforeAfter], count: int) -> list[BeforeAfter]:
    """The ``count`` pictures, each key once, whose keys' hashes are least, in the order of their keys.

    A choice out of choices is the choice out of all, so each rank need not keep more than ``count``.
    """
    by_key = {one.key: one for one in pictures}
    kept = sorted(by_key, key=lambda key: seed_of("before and after", key))[:count]
    return [by_key[key] for key in sorted(kept)]


def grid(pictures: list[BeforeAfter]) -> Tensor:
    """One picture (3, H, W) in [0, 1] with a row each: LQ enlarged by repeating pixels, restored, HQ.

    Where sizes differ, the rows are cut to the smallest.
    """
    height, width = (min(one.hq.shape[axis] for one in pictures) for axis in (1, 2))
    rows = []
    for one in pictures:
        enlarged = F.interpolate(one.lq[None].float(), size=one.hq.shape[1:], mode="nearest-exact")[0]
        rows += [part[:, :height, :width].float() for part in (enlarged, one.restored, one.hq)]
    return make_grid(torch.stack(rows) / 255, nrow=3, padding=4, pad_value=1.0)
