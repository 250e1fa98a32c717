"""JPEG compression of a batch on any device, without the entropy coding, which is lossless.

All lossy steps are implemented as in libjpeg: full-range YCbCr rounded to integer levels (JFIF), chroma averaged over
2x2 pixels, the discrete cosine transform of 8x8 blocks, and quantization with the standard tables (ITU-T T.81, Annex
K). Decoding rounds to integer levels again and interpolates chroma between its samples.
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.tensors import to_device

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
    *((99,) * 8,) * 4,
)
SIDE = 8
"""Side of a block in pixels."""

LUMA_MIDDLE = 128.0
"""Level subtracted from Y before the transform. Cb and Cr are already centered on gray, so gray stays gray."""

PIXELS_AT_ONCE = 2**16
"""Number of pixels that a CPU processes at a time, so that they stay in the caches."""


def jpeg(images: Tensor, qualities: Sequence[float]) -> Tensor:
    """Encode and decode with 4:2:0 chroma and the standard tables.

    Kornia's codec is designed to be differentiable. It is several times slower, smooths chroma before averaging it,
    rounds softly, and shifts gray toward magenta by one level. LQ for training should have the artifacts of real JPEG.

    Each block is stored as a row of 64 numbers, so that one product with a 64x64 matrix transforms all blocks.

    Args:
        images: (N, 3, H, W) float32 in [0, 1], any size.
        qualities: N qualities in 1..100, not necessarily integers.

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
    """Scale the standard quantization tables to the given qualities as libjpeg does.

    Args:
        qualities: N qualities in 1..100.

    Returns:
        (N, 2, 64) integer-valued quantization steps of luminance and chroma, from 1 to 255, on the CPU.
    """
    quality = torch.tensor(qualities, dtype=torch.float32).view(-1, 1, 1)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    table = torch.tensor((LUMA_TABLE, CHROMA_TABLE), dtype=torch.float32).flatten(1)
    return ((table * scale + 50) / 100).floor().clamp(1, 255)


def _encode_and_decode(images: Tensor, tables: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    multiple = 2 * SIDE
    if height % multiple or width % multiple:
        images = F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    to_ycc, to_rgb, transform = _matrices(images.device)
    planes = torch.matmul(to_ycc, images.flatten(2)).round_().view_as(images)
    luma, chroma = planes[:, :1], planes[:, 1:]
    small = F.avg_pool2d(chroma, 2).round_()
    _quantise_(luma, tables[:, :1], transform, LUMA_MIDDLE)
    _quantise_(small, tables[:, 1:], transform, 0.0)
    chroma.copy_(F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False).round_())
    decoded = torch.matmul(to_rgb, planes.flatten(2)).view_as(images)
    return decoded.clamp_(0, 1)[..., :height, :width]


def _quantise_(planes: Tensor, tables: Tensor, transform: Tensor, middle: float) -> None:
    """Quantize the transform of (N, C, H, W) planes minus ``middle`` with (N, 1, 64) steps, in place."""
    blocks = planes.unflatten(-1, (-1, SIDE)).unflatten(-3, (-1, SIDE)).transpose(-3, -2)
    tables = tables.unsqueeze(1)
    rows = torch.sub(blocks, middle, out=torch.empty_like(blocks, memory_format=torch.contiguous_format))
    rows = rows.view(*planes.shape[:2], -1, SIDE * SIDE)
    levels = torch.matmul(rows, transform.T).div_(tables).round_().mul_(tables)
    restored = torch.matmul(levels, transform, out=rows).round_().clamp_(-128, 127).add_(middle)
    blocks.copy_(restored.view(blocks.shape))


@cache
def _matrices(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices from RGB in [0, 1] to Y, Cb and Cr in levels (Cb and Cr around 0), back to RGB, and of a block's DCT."""
    luma = torch.tensor((0.299, 0.587, 0.114), dtype=torch.float64)
    red, _, blue = torch.eye(3, dtype=torch.float64)
    to_ycc = 255 * torch.stack((luma, (blue - luma) / (2 - 2 * 0.114), (red - luma) / (2 - 2 * 0.299)))
    position = torch.arange(SIDE, dtype=torch.float64)
    cosines = ((2 * position + 1) * position.unsqueeze(1) * (math.pi / (2 * SIDE))).cos() / 2
    cosines[0] /= math.sqrt(2)
    matrices = to_ycc, to_ycc.inverse(), torch.kron(cosines, cosines)
    return tuple(to_device(matrix.float(), device) for matrix in matrices)
