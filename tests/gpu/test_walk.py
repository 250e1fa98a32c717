"""The network and the walk back on the GPU."""

import pytest
import torch
from tiny_ddpm import tiny_denoiser

from ddpm_pairs.degradations.walk import Sampling, synthesize
from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.diffusion.runtime.runtime import placed
from ddpm_pairs.shipped import weights_file

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def denoiser():
    """The shipped DDPM, in float32 on the CPU."""
    return load_denoiser(weights_file("blind_camera")).eval()


@pytest.fixture(scope="module")
def noisy():
    """x_t (8, 3, 64, 64) and table indices."""
    return torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.arange(8) * 30


@pytest.mark.parametrize(("precision", "most"), [("fp32", 2e-3), ("bf16", 2e-2)])
@torch.inference_mode()
def test_the_gpu_predicts_what_the_cpu_predicts(device, denoiser, noisy, precision, most):
    """Within what TensorFloat-32 convolutions, and bf16, may round."""
    on_device = placed(denoiser, device, precision)
    expected, found = denoiser(*noisy), on_device(*(one.to(device) for one in noisy)).float().cpu()
    error = (found - expected).norm() / expected.norm()
    assert error < most
    assert on_device is not denoiser or device.type == "cpu"


@torch.inference_mode()
def test_the_network_runs_in_bf16_with_channels_last(device, denoiser, noisy):
    on_device, seen = placed(denoiser, device, "bf16"), []
    convolutions = [one for one in on_device.net.modules() if isinstance(one, torch.nn.Conv2d)]
    hooks = [one.register_forward_hook(lambda module, inputs, output: seen.append(output)) for one in convolutions]
    seen += [one.weight for one in convolutions]
    on_device(*(one.to(device) for one in noisy))
    for hook in hooks:
        hook.remove()
    assert len(seen) >= 2 * len(convolutions)
    assert all(one.dtype == torch.bfloat16 and one.is_contiguous(memory_format=torch.channels_last) for one in seen)


@pytest.mark.parametrize("mode", ["default", "exact"])
@torch.inference_mode()
def test_a_walk_is_queued_without_waiting(device, without_waiting, mode):
    denoiser, initial = placed(tiny_denoiser(), device, "bf16"), torch.rand(4, 3, 32, 48).to(device)

    parameters = [{"t": t, "noise_seed": 2 * t, "steps_seed": 2 * t + 1} for t in (0, 1, 20, 40)]

    def walk():
        return synthesize(denoiser, initial, parameters, Sampling.of_mode(mode))

    first = walk()
    with without_waiting():
        second = walk()
    assert torch.equal(first, second) and torch.equal(first[0], initial[0])
