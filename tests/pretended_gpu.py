"""A GPU that is only pretended, so that a machine without one can tell whether the host would wait for it.

Its tensors say that they are on CUDA and have a shape but no numbers: whatever needs a number or a count from them
fails, and so does mixing devices. What crosses between the devices is watched.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


class HostWaitedError(Exception):
    pass


class Crossings(TorchDispatchMode):
    """Fails at a copy between devices for which the host waits: any but a queued one from pinned memory to CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: list[torch.Tensor] = []

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self.pinned.append(tensor)
        return tensor

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        if operation in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source = arguments[-1] if operation is torch.ops.aten.copy_.default else arguments[0]
            queued = (options or {}).get("non_blocking") and any(source is tensor for tensor in self.pinned)
            if source.device != result.device and not (queued and result.device.type == "cuda"):
                raise HostWaitedError(f"{operation} from {source.device} to {result.device}")
        return result


@contextmanager
def pretended_gpu() -> Iterator[None]:
    crossings, generator = Crossings(), torch.Generator
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True), crossings:
        # neither pinned memory nor a generator of CUDA can be had, or pretended, without it
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: crossings.pin(tensor))
        patch.setattr(torch, "Generator", lambda device="cpu": generator())
        yield
