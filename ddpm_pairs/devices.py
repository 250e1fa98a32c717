"""Moving tensors between the host and a device, and keeping float32 exact there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor from the CPU without making the host wait.

    A copy from pageable memory blocks the host until the GPU has done all that was queued before it; one from pinned
    memory is queued itself.

    Args:
        tensor: On the CPU, or on ``device`` already.
        device: Where it is needed.

    Returns:
        The tensor on ``device``; the same object where it is there already.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Within it, float32 stays float32: no autocast, and on CUDA no TensorFloat-32.

    Torch allows TensorFloat-32 in convolutions, and trainings often in products too. Its 10 bits of mantissa would add
    errors of half a level to JPEG, and make scores depend on the machine.

    Args:
        device: Where the pictures are.
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
