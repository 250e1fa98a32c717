"""Tensors that are the same on every machine: seeds by name, transfers to a device, and exact float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch
from torch import Tensor


def seed_of(*parts: str | int) -> int:
    """Hash the parts to a 63-bit seed with BLAKE2b; the same on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & (2**63 - 1)


def generator_for(*parts: str | int) -> torch.Generator:
    """Return a CPU generator seeded by ``seed_of``; for an image, from the run's seed, its key, and the purpose."""
    return torch.Generator().manual_seed(seed_of(*parts))


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
