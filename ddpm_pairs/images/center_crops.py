"""Center crops of equal size from a few images."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.images.find import Picture


def decoded(pictures: Iterable[Picture]) -> Iterator[np.ndarray]:
    """Yield decoded images, uint8 (H, W, 3); unreadable ones are skipped."""
    for picture in pictures:
        try:
            yield decode_picture(picture.path)
        except UnreadablePicture:
            continue


def center_crops(candidates: Iterable[np.ndarray], count: int, side: int) -> Tensor:
    """Cut the centers of the first images that are large enough.

    Args:
        candidates: Images, uint8 (H, W, 3); consumed only as far as needed.
        count: Maximum number of crops.
        side: Side of a crop, in pixels.

    Returns:
        (n, 3, side, side), float32 in [0, 1], n from 0 to ``count``.
    """
    crops = []
    for picture in candidates:
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        if min(top, left) >= 0:
            crops.append(torch.from_numpy(picture[top : top + side, left : left + side].copy()).permute(2, 0, 1))
        if len(crops) == count:
            break
    return torch.stack(crops).float() / 255 if crops else torch.zeros(0, 3, side, side)
