"""The host queues a whole denoising run without waiting for the GPU, checked on any machine with fake GPU tensors."""

import pytest
import torch
from pretended_gpu import pretended_gpu
from torch.utils._python_dispatch import _disable_current_modes

from ddpm_pairs.degradations.walk import Sampling, synthesize
from ddpm_pairs.degradations.walk_tiles import TiledDenoiser
from ddpm_pairs.diffusion import Denoiser, Schedule, UNet
from ddpm_pairs.diffusion.samplers import make_plan


def planned_apart(self, schedule, t):
    """Make the plan on the host, from real numbers."""
    with _disable_current_modes():
        return make_plan(schedule, t, self.sampler, self.num_steps, self.eta)


def drawn(*ts):
    return [{"t": t, "noise_seed": n, "steps_seed": n} for n, t in enumerate(ts)]


@pytest.fixture
def pretended(monkeypatch):
    """A denoiser on a fake GPU."""
    monkeypatch.setattr(Sampling, "plan", planned_apart)
    schedule = Schedule("cosine", 1000)  # it checks its numbers, which a fake device does not have
    with pretended_gpu():
        with torch.device("cuda"):
            net = UNet(channels=(8, 16), layers_per_block=1, attention_levels=[1], head_dim=8, norm_groups=4)
        yield Denoiser(net, schedule, t_max=600).eval()


@pytest.mark.filterwarnings("ignore:.*CUDA is not available.*:UserWarning")
@pytest.mark.parametrize("mode", ["default", "exact"])
def test_a_batch_of_pictures_is_walked_back_without_waiting(pretended, mode):
    initial = torch.empty(4, 3, 16, 24, device="cuda")
    with torch.no_grad():
        lq = synthesize(pretended, initial, drawn(0, 1, 2, 4), Sampling.of_mode(mode))
    assert lq.shape == initial.shape and lq.device.type == "cuda" and lq.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*CUDA is not available.*:UserWarning")
def test_a_large_picture_is_walked_back_without_waiting(pretended):
    tiled = TiledDenoiser(pretended, (64, 200), 64, 4, torch.device("cuda"))
    with torch.no_grad():
        lq = synthesize(tiled, torch.empty(1, 3, 64, 200, device="cuda"), drawn(500), Sampling(num_steps=2))
    assert lq.shape == (1, 3, 64, 200) and lq.device.type == "cuda"
