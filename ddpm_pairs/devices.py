"""Moving tensors between the host and a device."""

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
