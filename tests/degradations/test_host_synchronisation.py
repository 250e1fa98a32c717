"""The host never waits for the GPU inside a chain, which a machine without a GPU can check on pretended tensors.

Such a tensor says that it is on CUDA and has a shape but no numbers: whatever needs a number or a count from it fails,
and so does mixing devices. What crosses between the devices is watched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from degradation_records import MODELS, drawn, label
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_pairs.degradations import Blur, Chain, Classical, Jpeg, Noise, Resize, jpeg


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
    jpeg._matrices.cache_clear()


OWN = Chain([Blur(probability=0.5), Resize((0.4, 0.9)), Noise(("gaussian", "poisson")), Jpeg(probability=0.5)], 2)
SOME = [model for model in MODELS if model.scale == 4 or model.preset == "faces"]
ALL = [*SOME, Classical(1, "faces", colour=True), OWN]
LABELS = [*map(label, SOME), "classical-colour", "chain"]
COUNT = 6


@pytest.mark.filterwarnings("ignore:.*CUDA is not available.*:UserWarning")
@pytest.mark.parametrize("model", ALL, ids=LABELS)
def test_the_host_never_waits(model):
    parameters = drawn(model, COUNT)
    with pretended_gpu():
        lq = model.apply(torch.empty(COUNT, 3, 96, 64, device="cuda"), parameters)
    assert lq.shape == (COUNT, 3, 96 // model.scale, 64 // model.scale)
    assert lq.device.type == "cuda" and lq.dtype == torch.float32


def test_waiting_is_noticed():
    with pretended_gpu():
        hq, here = torch.empty(2, 3, 8, 8, device="cuda"), torch.ones(2)
        for wait in (lambda: hq.sum().item(), lambda: bool(hq.any()), lambda: hq[0, 0, 0, 0].tolist()):
            with pytest.raises(DataDependentOutputException):
                wait()
        for wait in (lambda: hq[hq > 0.5], hq.unique):
            with pytest.raises(DynamicOutputShapeException):
                wait()
        literal = partial(torch.tensor, [True, False], device="cuda")
        for wait in (literal, hq.cpu, partial(here.to, "cuda"), partial(here.to, "cuda", non_blocking=True)):
            with pytest.raises(HostWaitedError):
                wait()
        here.pin_memory().to("cuda", non_blocking=True)
        with pytest.raises(RuntimeError, match="same device"):
            hq * torch.ones(3, 1, 1)
