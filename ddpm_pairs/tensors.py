"""Tensors that are the same on every machine (seeds by name, transfers, exact float32), and a limit to their size."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FACTORIES = {
    torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye, torch.arange, torch.linspace
}  # fmt: skip
"""Functions with which layers allocate their weights and buffers."""

_SPARE_NUMBERS = 2**28
"""Elements that a network may allocate besides its weights, for attention masks, for example: 1 GiB of float32."""

_SPARE_TENSORS = 2_000
"""Tensors that a network may allocate besides its weights."""

_TOO_LARGE = "the network would be far larger than its weights"


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


class SizeLimit(TorchFunctionMode):
    """Stop a network from growing far beyond the weights that it is built for.

    A file of a few kilobytes can name layer 1,000,000,000 or a width of 1,000,000. Inside ``with SizeLimit(tensors):``
    building such a network raises an error before it fills the memory.

    Args:
        tensors: The weights from the file.

    Raises:
        MemoryError: If too much is allocated inside the ``with`` block.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        tensors = list(tensors)
        # views share storage, and an expanded tensor takes less memory than its shape suggests
        stored = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
        self.numbers = 2 * sum(stored.values()) + _SPARE_NUMBERS
        self.tensors = 10 * len(tensors) + _SPARE_TENSORS

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,  # noqa: ANN401 - torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run a torch function and count what it allocates."""
        if function not in _FACTORIES:
            return function(*args, **(kwargs or {}))
        try:
            result = function(*args, **(kwargs or {}))
        except RuntimeError as error:  # out of memory
            raise MemoryError(_TOO_LARGE) from error
        self.numbers -= result.numel()
        self.tensors -= 1
        if self.numbers < 0 or self.tensors < 0:
            raise MemoryError(_TOO_LARGE)
        return result
