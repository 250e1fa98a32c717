"""Images as tensors: rounding to 8 bits, enlarging LQ, PSNR against HQ, and padding to a canvas."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def eight_bit(images: Tensor) -> Tensor:
    """Convert from [0, 1] to uint8 as in an image file: clamp, then round to the nearest level."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def round_to_8_bit(images: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the nearest multiple of 1/255."""
    return images.clamp(0, 1).mul_(255).round_().div_(255)


def resize_bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with the antialiased bicubic filter known as "MATLAB bicubic" (a = -0.5, stretched when downsampling).

    Args:
        images: (N, C, H, W).
        size: (height, width) of the result.

    Returns:
        (N, C, *size); may overshoot [0, 1].
    """
    return functional.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)


def enlarged(lq: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 ``(..., 3, h, w)`` to ``size`` (height, width), bicubic with a = -0.5, rounded to uint8."""
    if tuple(lq.shape[-2:]) == tuple(size):
        return lq
    whole = lq if lq.ndim == 4 else lq[None]
    result = resize_bicubic(whole.float(), tuple(size))
    return result.clamp_(0, 255).round_().to(torch.uint8).view(*lq.shape[:-2], *size)


def psnr_of(hq: Tensor, lq: Tensor) -> float:
    """Compute the PSNR of HQ against LQ, enlarged to the size of HQ by bicubic interpolation.

    Args:
        hq: uint8 ``(3, H, W)``.
        lq: uint8 ``(3, h, w)``.

    Returns:
        PSNR in dB with peak 255; infinite for equal images.
    """
    # integers: exact in any order of summation, and half the memory of float64 for large images
    error = (hq.int() - enlarged(lq, hq.shape[1:]).int()).square_().sum(dtype=torch.int64).item() / hq.numel()
    return 10 * math.log10(255**2 / error) if error else math.inf


def psnr_against_hq(hq: Tensor, lq: Tensor) -> float | None:
    """``psnr_of`` as stored in a manifest: rounded to 1e-4 dB, and ``None`` for equal images.

    Args:
        hq: uint8 ``(3, H, W)``.
        lq: uint8 ``(3, h, w)``.
    """
    psnr = psnr_of(hq, lq)
    return None if psnr == math.inf else round(psnr, 4)


# Canvases


def crop_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Crop an image ``(..., H, W)`` at the bottom and right so that its sides are multiples of ``multiple``."""
    height, width = image.shape[-2:]
    return image[..., : height - height % multiple, : width - width % multiple]


def canvas_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Round (height, width) up to multiples of ``multiple``."""
    return tuple(-(-side // multiple) * multiple for side in size)


def pad_to_canvas(image: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Pad an image ``(..., H, W)`` at the bottom and right by reflection, repeated if the canvas is much larger.

    Cropping the result to (H, W) returns the original image exactly.
    """
    if tuple(image.shape[-2:]) == tuple(canvas):
        return image
    rows, columns = (_reflected(side, target) for side, target in zip(image.shape[-2:], canvas, strict=True))
    return image[..., rows.to(image.device), :][..., columns.to(image.device)]


def pad_by_reflection(images: Tensor, margin: int) -> Tensor:
    """Pad all four sides by reflection at the edge pixel, repeated if an image is smaller than the margin.

    Args:
        images: ``(N, C, H, W)``.
        margin: Pixels to add on each side.

    Returns:
        The padded images, ``(N, C, H + 2 margin, W + 2 margin)``.
    """
    if margin < min(images.shape[-2:]):
        return functional.pad(images, (margin,) * 4, mode="reflect")
    for dim in (-2, -1):
        last = images.shape[dim] - 1
        position = torch.arange(-margin, last + 1 + margin, device=images.device)
        # a reflected image repeats every 2 * last pixels; a single pixel repeats itself
        index = last - (position % (2 * last) - last).abs() if last else torch.zeros_like(position)
        images = images.index_select(dim, index)
    return images


def _reflected(side: int, target: int) -> Tensor:
    """Return ``target`` indices that run from 0 to side - 1, back to 0, and so on."""
    if side == 1:
        return torch.zeros(target, dtype=torch.int64)
    period = 2 * (side - 1)
    position = torch.arange(target) % period
    return torch.minimum(position, period - position)
