"""Limit the size of a network that is built from the names and shapes in a file."""

from collections.abc import Callable, Iterable
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
