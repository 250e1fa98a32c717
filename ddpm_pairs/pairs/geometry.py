"""Canvases: pictures of any size brought to sizes that scale and network divide, and back."""

import torch
from torch import Tensor


def crop_to_multiple(picture: Tensor, multiple: int) -> Tensor:
    """The top-left part of a picture (..., H, W) whose sides are multiples of ``multiple``."""
    height, width = picture.shape[-2:]
    return picture[..., : height - height % multiple, : width - width % multiple]


def canvas_size(size: tuple[int, int], scale: int, multiple: int) -> tuple[int, int]:
    """The HQ canvas on which a picture is worked.

    Args:
        size: (height, width) of the HQ picture.
        scale: HQ sides over LQ sides.
        multiple: LQ sides must be multiples of this for the network.

    Returns:
        (height, width): the smallest multiples of ``scale * multiple`` that hold the picture.
    """
    step = scale * multiple
    return tuple(-(-side // step) * step for side in size)


def pad_to_canvas(picture: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Extend a picture (..., H, W) to the right and below by reflection, repeated where the canvas is much larger.

    Cropping the canvas to (H, W) gives the picture back exactly.
    """
    rows, columns = (_reflected(side, target) for side, target in zip(picture.shape[-2:], canvas, strict=True))
    return picture[..., rows.to(picture.device), :][..., columns.to(picture.device)]


def _reflected(side: int, target: int) -> Tensor:
    """Indices 0..side-1, then back and forth, ``target`` of them."""
    if side == 1:
        return torch.zeros(target, dtype=torch.int64)
    period = 2 * (side - 1)
    position = torch.arange(target) % period
    return torch.minimum(position, period - position)
