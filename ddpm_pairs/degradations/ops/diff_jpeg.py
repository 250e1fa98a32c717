"""JPEG as Real-ESRGAN's released training code computes it, with a codec known as DiffJPEG.

It differs from libjpeg, and so from ``ops.jpeg``: colors and quantization steps are not rounded, steps are not limited,
the luminance table is transposed, chroma is enlarged by repeating samples, decoded levels are not rounded, and sides
are padded with black. Repeating the samples keeps more power in fine chroma.
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_pairs.degradations.ops.jpeg import CHROMA_TABLE, LUMA_TABLE, SIDE
from ddpm_pairs.tensors import to_device

_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def diff_jpeg(images: Tensor, qualities: Sequence[float]) -> Tensor:
    """Encode and decode with 4:2:0 chroma.

    Args:
        images: (N, 3, H, W) float32 in [0, 1], any size.
        qualities: N qualities from 1 to below 100, not necessarily integers.

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    height, width = images.shape[-2:]
    multiple = 2 * SIDE
    padded = F.pad(images, (0, -width % multiple, 0, -height % multiple))
    to_ycc, to_rgb, transform, tables = _matrices(images.device)
    quality = torch.tensor(qualities, dtype=torch.float32)
    factors = to_device(torch.where(quality < 50, 50 / quality, 2 - quality / 50), images.device)
    planes = torch.einsum("oc,nchw->nohw", to_ycc, padded * 255)
    luma = _quantize(planes[:, :1] - 128, tables[:1], factors, transform) + 128
    chroma = _quantize(F.avg_pool2d(planes[:, 1:], 2), tables[1:], factors, transform)
    chroma = chroma.repeat_interleave(2, -2).repeat_interleave(2, -1)
    decoded = torch.einsum("oc,nchw->nohw", to_rgb, torch.cat([luma, chroma], 1))
    return (decoded / 255).clamp(0, 1)[..., :height, :width]


def _quantize(planes: Tensor, table: Tensor, factors: Tensor, transform: Tensor) -> Tensor:
    """Quantize the transform of (N, C, H, W) planes with a table (1, 64) times N factors."""
    blocks = planes.unflatten(-1, (-1, SIDE)).unflatten(-3, (-1, SIDE)).transpose(-3, -2)
    steps = (table * factors.view(-1, 1)).view(-1, *[1] * 3, SIDE * SIDE)
    restored = ((blocks.flatten(-2) @ transform.T / steps).round() * steps) @ transform
    return restored.unflatten(-1, (SIDE, SIDE)).transpose(-3, -2).reshape(planes.shape)


@cache
def _matrices(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the color matrices, the transform of a block, and both tables (2, 64)."""
    position = torch.arange(SIDE, dtype=torch.float64)
    cosines = ((2 * position + 1) * position.unsqueeze(1) * (math.pi / (2 * SIDE))).cos() / 2
    cosines[0] /= math.sqrt(2)
    tables = torch.tensor((LUMA_TABLE, CHROMA_TABLE), dtype=torch.float64).mT.flatten(1)
    matrices = torch.tensor(_TO_YCC), torch.tensor(_TO_RGB), torch.kron(cosines, cosines), tables
    return tuple(to_device(matrix.float(), device) for matrix in matrices)
