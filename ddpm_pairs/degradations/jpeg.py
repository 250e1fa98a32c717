"""JPEG compression of a batch on any device, without the entropy coding, which loses nothing.

Everything that loses something is here: YCbCr of full range, chroma at half the size, the discrete cosine transform of
8x8 blocks and their quantisation by the standard tables (ITU-T T.81, Annex K) scaled as libjpeg does. Roundings are the
polynomial ones of differentiable JPEG (Reich et al., arXiv 2309.06978): the cube of what a rounding takes away stays.
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.degradations.base import to_device

LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
SIDE = 8
"""Side of a block."""

LUMA_MIDDLE = 128.0
"""What is taken from Y before the transform, in levels; Cb and Cr are worked about that of gray, so gray stays gray."""

NEIGHBOUR = 1 / (2 + math.exp(2))
"""Weight of each neighbour in the 3-tap Gaussian of standard deviation 1/2 that precedes the halving of chroma."""

PIXELS_AT_ONCE = 2**16
"""What a CPU works on at a time, so that it stays in the caches."""


def jpeg(images: Tensor, qualities: Sequence[float]) -> Tensor:
    """Encode and decode with 4:2:0 chroma and the standard tables.

    The output is that of Kornia's codec but for a colour cast: there the chroma of gray lies half a level beside the
    middle, which at qualities up to 75 turns gray magenta by about a level.

    Blocks lie in rows of 64 numbers, so that transforming all of them is one product with a 64x64 matrix: on a CPU as
    quick as a strided convolution, and on the way back ten times as quick. A GPU takes the whole batch at once.

    Args:
        images: (N, 3, H, W) float32 in [0, 1], any size.
        qualities: N qualities in 1..100, not necessarily whole.

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    tables = to_device(quantisation_tables(qualities), images.device)
    group = max(1, PIXELS_AT_ONCE // images[0, 0].numel())
    if images.device.type != "cpu" or len(images) <= group:
        return _encode_and_decode(images, tables)
    encoded = torch.empty_like(images)
    for some, their_tables, result in zip(images.split(group), tables.split(group), encoded.split(group), strict=True):
        result.copy_(_encode_and_decode(some, their_tables))
    return encoded


def quantisation_tables(qualities: Sequence[float]) -> Tensor:
    """Scale the standard tables to the given qualities.

    Args:
        qualities: N qualities in 1..100.

    Returns:
        (N, 2, 64) steps of luminance and chroma on the CPU; at the highest qualities they are below 1.
    """
    quality = torch.tensor(qualities, dtype=torch.float32).view(-1, 1, 1)
    scale = _soft_floor(torch.where(quality < 50, 5000 / quality, 200 - 2 * quality))
    steps = (torch.tensor((LUMA_TABLE, CHROMA_TABLE), dtype=torch.float32).flatten(1) * scale + 50) / 100
    over, under = (steps - 255).clamp(min=0), (steps - 1).clamp(max=0)
    return _soft_floor(steps.clamp(1, 255) - 0.02 * torch.expm1(-over) + 0.02 * torch.expm1(under))


def _soft_floor(values: Tensor) -> Tensor:
    floor = values.floor()
    return floor + (values - 0.5 - floor) ** 3


def _encode_and_decode(images: Tensor, tables: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    multiple = 2 * SIDE
    if height % multiple or width % multiple:
        images = F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    to_ycc, to_rgb, transform = _matrices(images.device)
    planes = torch.matmul(to_ycc, images.flatten(2)).view_as(images)
    luma, chroma = planes[:, :1], planes[:, 1:]
    small = _halve(_halve(chroma, -2), -1)
    _quantise_(luma, tables[:, :1], transform, LUMA_MIDDLE)
    _quantise_(small, tables[:, 1:], transform, 0.0)
    chroma.copy_(F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False))
    decoded = torch.matmul(to_rgb, planes.flatten(2)).view_as(images)
    return decoded.clamp_(0, 1)[..., :height, :width]


def _halve(planes: Tensor, dim: int) -> Tensor:
    """Smooth by (w, 1 - 2 w, w), the border mirrored about the edge pixel, and average pairs."""
    even, odd = planes.unflatten(dim, (-1, 2)).unbind(dim)
    last = even.shape[dim] - 1
    before = torch.cat((odd.narrow(dim, 0, 1), odd.narrow(dim, 0, last)), dim)
    after = torch.cat((even.narrow(dim, 1, last), even.narrow(dim, last, 1)), dim)
    return (even + odd).mul_((1 - NEIGHBOUR) / 2).add_(before.add_(after), alpha=NEIGHBOUR / 2)


def _quantise_(planes: Tensor, tables: Tensor, transform: Tensor, middle: float) -> None:
    """Round the transform of (N, C, H, W) planes less their middle to multiples of (N, 1, 64) steps, in place."""
    blocks = planes.unflatten(-1, (-1, SIDE)).unflatten(-3, (-1, SIDE)).transpose(-3, -2)
    tables = tables.unsqueeze(1)
    rows = torch.sub(blocks, middle, out=torch.empty_like(blocks, memory_format=torch.contiguous_format))
    rows = rows.view(*planes.shape[:2], -1, SIDE * SIDE)
    levels = torch.matmul(rows, transform.T).div_(tables)
    torch.round(levels, out=rows)
    levels -= rows
    # the whole number and the cube of the rest
    levels = (levels * levels).mul_(levels).add_(rows).mul_(tables)
    blocks.copy_(torch.matmul(levels, transform, out=rows).add_(middle).view(blocks.shape))


@cache
def _matrices(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """From RGB in [0, 1] to levels of Y, Cb and Cr about 0; the way back; the transform of a block's 64 numbers."""
    luma = torch.tensor((0.299, 0.587, 0.114), dtype=torch.float64)
    red, _, blue = torch.eye(3, dtype=torch.float64)
    to_ycc = 255 * torch.stack((luma, 0.564 * (blue - luma), 0.713 * (red - luma)))
    position = torch.arange(SIDE, dtype=torch.float64)
    cosines = ((2 * position + 1) * position.unsqueeze(1) * (math.pi / (2 * SIDE))).cos() / 2
    cosines[0] /= math.sqrt(2)
    matrices = to_ycc, to_ycc.inverse(), torch.kron(cosines, cosines)
    return tuple(to_device(matrix.float(), device) for matrix in matrices)
