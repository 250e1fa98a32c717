"""Images as tensors: 8 bits, enlarging LQ, PSNR against HQ, and canvases whose sides divide."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def eight_bit(pictures: Tensor) -> Tensor:
    """[0, 1] to uint8 as a picture file would have it: clamped, then rounded to the nearest level."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def round_to_8_bit(images: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the nearest multiple of 1/255."""
    return images.clamp(0, 1).mul_(255).round_().div_(255)


def enlarged(lq: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (..., 3, h, w) brought to ``size`` (height, width) bicubically (a = -0.5), in whole levels."""
    if tuple(lq.shape[-2:]) == tuple(size):
        return lq
    whole = lq if lq.ndim == 4 else lq[None]
    result = functional.interpolate(whole.float(), size=tuple(size), mode="bicubic", antialias=True)
    return result.clamp_(0, 255).round_().to(torch.uint8).view(*lq.shape[:-2], *size)


def psnr_of(hq: Tensor, lq: Tensor) -> float:
    """PSNR of HQ against LQ enlarged bicubically.

    Args:
        hq: uint8 (3, H, W).
        lq: uint8 (3, h, w).

    Returns:
        dB with peak 255, infinite for equal pictures.
    """
    # whole numbers: exact in any order of summation, and half the memory of float64 where pictures are large
    error = (hq.int() - enlarged(lq, hq.shape[1:]).int()).square_().sum(dtype=torch.int64).item() / hq.numel()
    return 10 * math.log10(255**2 / error) if error else math.inf


def psnr_against_hq(hq: Tensor, lq: Tensor) -> float | None:
    """``psnr_of`` as a manifest holds it: rounded to 1e-4 dB, and ``None`` for equal images.

    Args:
        hq: uint8 (3, H, W).
        lq: uint8 (3, h, w).
    """
    psnr = psnr_of(hq, lq)
    return None if psnr == math.inf else round(psnr, 4)


# Canvases


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
        return functional.pad(images, (margin,) * 4, mode="reflect")
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
