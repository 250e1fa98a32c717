"""A few images before and after restoration; the choice does not depend on the distribution over ranks."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from ddpm_pairs.tensors import seed_of

SIDE = 256
"""Side in HQ pixels of the center crop that is kept of each image."""


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
    """Cut the same center region from uint8 LQ (3, h, w), restored (3, H, W) and HQ (3, H, W)."""
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

    Choosing among the choices of all ranks gives the same result as choosing among all images, so each rank keeps at
    most ``count`` images.
    """
    by_key = {one.key: one for one in pictures}
    first = sorted(by_key, key=lambda key: seed_of("before and after", key))[:count]
    return [by_key[key] for key in sorted(first)]


def grid(pictures: list[BeforeAfter]) -> Tensor:
    """Make one image (3, H, W) in [0, 1], with one row per item: LQ enlarged by repeating pixels, restored, HQ.

    If sizes differ, all are cropped to the smallest height and width.
    """
    height, width = (min(one.hq.shape[axis] for one in pictures) for axis in (1, 2))
    rows = []
    for one in pictures:
        enlarged = F.interpolate(one.lq[None].float(), size=one.hq.shape[1:], mode="nearest-exact")[0]
        rows += [part[:, :height, :width].float() for part in (enlarged, one.restored, one.hq)]
    return make_grid(torch.stack(rows) / 255, nrow=3, padding=4, pad_value=1.0)
