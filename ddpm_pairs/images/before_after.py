"""A few images before and after restoration, the same ones however the ranks share the work."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from ddpm_pairs.seeding import seed_of

SIDE = 256
"""Side, in HQ pixels, of the center that is kept of an image."""


@dataclass(frozen=True)
class BeforeAfter:
    """The center of one image.

    Attributes:
        key: The image's key.
        lq: uint8 (3, h, w).
        restored: uint8 (3, H, W).
        hq: uint8 (3, H, W).
    """

    key: str
    lq: Tensor
    restored: Tensor
    hq: Tensor


def cut_center(key: str, lq: Tensor, restored: Tensor, hq: Tensor) -> BeforeAfter:
    """Cut the centers of uint8 images, with the same content from LQ (3, h, w) as from restored and HQ (3, H, W)."""
    small, large = [], []
    for side_lq, side in zip(lq.shape[1:], hq.shape[1:], strict=True):
        shown = min(side_lq, max(1, SIDE * side_lq // side))
        start = (side_lq - shown) // 2
        small.append(slice(start, start + shown))
        large.append(slice(round(start * side / side_lq), round((start + shown) * side / side_lq)))
    cuts = (lq[:, small[0], small[1]], restored[:, large[0], large[1]], hq[:, large[0], large[1]])
    return BeforeAfter(key, *(cut.cpu().clone() for cut in cuts))


def choose(pictures: list[BeforeAfter], count: int) -> list[BeforeAfter]:
    """Choose the ``count`` images with the smallest hashes of their keys, each key once, sorted by key.

    Choosing from the ranks' choices gives the choice from all images, so each rank keeps at most ``count``.
    """
    by_key = {one.key: one for one in pictures}
    first = sorted(by_key, key=lambda key: seed_of("before and after", key))[:count]
    return [by_key[key] for key in sorted(first)]


def grid(pictures: list[BeforeAfter]) -> Tensor:
    """One image (3, H, W) in [0, 1] with a row for each: LQ enlarged by repeating pixels, restored, HQ.

    If sizes differ, the rows are cut to the smallest.
    """
    height, width = (min(one.hq.shape[axis] for one in pictures) for axis in (1, 2))
    rows = []
    for one in pictures:
        enlarged = F.interpolate(one.lq[None].float(), size=one.hq.shape[1:], mode="nearest-exact")[0]
        rows += [part[:, :height, :width].float() for part in (enlarged, one.restored, one.hq)]
    return make_grid(torch.stack(rows) / 255, nrow=3, padding=4, pad_value=1.0)
