"""Moving tensors between the host and a device, and keeping float32 exact there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor from the CPU to a device without blocking the host.

    A copy from pageable memory blocks the host until the GPU has finished all work queued before it. A copy from pinned
    memory is only queued.

    Args:
        tensor: A tensor on the CPU, or already on ``device``.
        device: The target device.

    Returns:
        The tensor on ``device``; the same object if it is already there.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Keep float32 exact inside the block: no autocast, and no TensorFloat-32 on CUDA.

    PyTorch allows TensorFloat-32 in convolutions by default, and trainings often allow it in matrix products too. Its
    10-bit mantissa would add errors of half a level to JPEG and make scores depend on the machine.

    Args:
        device: The device of the images.
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
