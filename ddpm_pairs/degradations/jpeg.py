"""JPEG compression of a batch on any device."""

from collections.abc import Sequence

import torch
from kornia.enhance import jpeg_codec_differentiable
from torch import Tensor


def jpeg(images: Tensor, qualities: Sequence[float]) -> Tensor:
    """Encode and decode with 4:2:0 chroma and the standard tables (Kornia's codec, Reich et al., arXiv 2309.06978).

    Args:
        images: (N, 3, H, W) float32 in [0, 1], any size.
        qualities: N qualities in 1..100, not necessarily whole.

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    # the codec checks the range of the qualities; on the CPU that check waits for no device
    return jpeg_codec_differentiable(images, torch.tensor(qualities, dtype=torch.float32))
