"""The host never waits for the GPU inside a chain, which a machine without a GPU can check on pretended tensors."""

from functools import partial

import pytest
import torch
from degradation_records import FACES, MODELS, drawn, label
from pretended_gpu import HostWaitedError, pretended_gpu
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from ddpm_pairs.degradations import Blur, Chain, ClassicalFaces, Jpeg, Noise, ReDegNetChain, Resize
from ddpm_pairs.degradations.ops import jpeg


@pytest.fixture(autouse=True)
def no_pretended_tables():
    """Tables that are kept for the next call must not outlive the pretence."""
    yield
    jpeg._matrices.cache_clear()


OWN = Chain([Blur(probability=0.5), Resize((0.4, 0.9)), Noise(("gaussian", "poisson")), Jpeg(probability=0.5)], 2)
SOME = [model for model in MODELS if model.scale == 4 or model in FACES]
ALL = [*SOME, ClassicalFaces(colour=True), OWN, ReDegNetChain(simple=0.5)]
LABELS = [*map(label, SOME), "classical-colour", "chain", "redegnet"]
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
