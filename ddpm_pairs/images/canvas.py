"""Canvases: pictures of any size brought to sizes that scale and network divide, and back."""

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_to_multiple(picture: Tensor, multiple: int) -> Tensor:
    """The top-left part of a picture (..., H, W) whose sides are multiples of ``multiple``."""
    height, width = picture.shape[-2:]
    return picture[..., : height - height % multiple, : width - width % multiple]


def canvas_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The smallest (height, width) of multiples of ``multiple`` that holds an image of this (height, width)."""
    return tuple(-(-side // multiple) * multiple for side in size)


def pad_to_canvas(picture: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Extend a picture (..., H, W) to the right and below by reflection, repeated where the canvas is much larger.

    Cropping the canvas to (H, W) gives the picture back exactly.
    """
    if tuple(picture.shape[-2:]) == tuple(canvas):
        return picture
    rows, columns = (_reflected(side, target) for side, target in zip(picture.shape[-2:], canvas, strict=True))
    return picture[..., rows.to(picture.device), :][..., columns.to(picture.device)]


def pad_by_reflection(images: Tensor, margin: int) -> Tensor:
    """Pad all four sides by mirroring about the edge pixel, again and again where a picture is smaller than the margin.

    Args:
        images: (N, C, H, W).
        margin: pixels to add on each side.

    Returns:
        (N, C, H + 2 margin, W + 2 margin).
    """
    if margin < min(images.shape[-2:]):
        return F.pad(images, (margin,) * 4, mode="reflect")
    for dim in (-2, -1):
        last = images.shape[dim] - 1
        position = torch.arange(-margin, last + 1 + margin, device=images.device)
        # a mirrored picture repeats every 2 * last pixels; a single pixel is all there is to repeat
        index = last - (position % (2 * last) - last).abs() if last else torch.zeros_like(position)
        images = images.index_select(dim, index)
    return images


def _reflected(side: int, target: int) -> Tensor:
    """Indices 0..side-1, then back and forth, ``target`` of them."""
    if side == 1:
        return torch.zeros(target, dtype=torch.int64)
    period = 2 * (side - 1)
    position = torch.arange(target) % period
    return torch.minimum(position, period - position)
