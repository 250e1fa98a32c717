"""What only a GPU can tell. Tests here are marked ``gpu``; `benchmarks/gpu.sh` runs them on a machine that has one."""

import os
from contextlib import contextmanager

import pytest
import torch

REHEARSE = "DDPM_PAIRS_REHEARSE"


@pytest.fixture(scope="session")
def device():
    """The GPU; the CPU where tests are rehearsed (``$DDPM_PAIRS_REHEARSE`` is set)."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if os.environ.get(REHEARSE):
        return torch.device("cpu")
    pytest.skip("needs a GPU")


@pytest.fixture
def without_waiting(device):
    """A context in which an error is raised where the host would wait for the GPU."""

    @contextmanager
    def watched():
        if device.type == "cpu":
            yield
            return
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return watched
