"""Keeping degradations in float32, whatever the training around them computes in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Within it, float32 stays float32: no autocast, and on CUDA no TensorFloat-32.

    Trainings often allow TensorFloat-32, whose 10 bits of mantissa would add errors of half a level to JPEG.

    Args:
        device: where the pictures are.
    """
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv
        before = products.fp32_precision, convolutions.fp32_precision
        products.fp32_precision = convolutions.fp32_precision = "ieee"
        try:
            yield
        finally:
            products.fp32_precision, convolutions.fp32_precision = before
