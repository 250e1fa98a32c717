"""Degradations on the GPU: what the CPU gives, and no waiting."""

import pytest
import torch
from degradation_records import MODELS, NO_NOISE, crops, drawn, label, rewritten

from ddpm_pairs.degradations import ReDegNetChain

COUNT = 8
ALL = [*MODELS, ReDegNetChain(simple=0.0)]  # always with noise

pytestmark = pytest.mark.gpu


def psnr(images, references):
    """Decibels of each image."""
    return -10 * (images - references).square().flatten(1).mean(1).clamp_min(1e-12).log10()


@pytest.mark.parametrize("model", ALL, ids=label)
def test_without_noise_the_gpu_gives_what_the_cpu_gives(device, model):
    """Fields of noise differ by kind of device. At quality 100 a coefficient that rounds the other way costs little."""
    parameters = rewritten(drawn(model, COUNT), noise=NO_NOISE, quality=100)
    hq = crops(COUNT, 128, 96)
    found = model.apply(hq.to(device), parameters)
    assert found.device.type == device.type and found.dtype == torch.float32
    assert psnr(found.cpu(), model.apply(hq, parameters)).min() > 60


@pytest.mark.parametrize("model", [model for model in ALL if "bicubic" not in label(model)], ids=label)
def test_noise_and_jpeg_do_as_much_as_on_the_cpu(device, model):
    parameters, hq = drawn(model, 24), crops(12, 128, 96).repeat(2, 1, 1, 1)
    clean = model.apply(hq, rewritten(parameters, noise=NO_NOISE, quality=100))
    added = [(model.apply(hq.to(where), parameters).cpu() - clean).std(dim=(1, 2, 3)) for where in (device, "cpu")]
    assert (added[0] / added[1]).mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("model", ALL, ids=label)
def test_a_row_is_the_same_each_time_and_beside_other_neighbors(device, model):
    parameters, hq = drawn(model, COUNT), crops(COUNT, 128, 96).to(device)
    first = model.apply(hq, parameters)
    assert torch.equal(model.apply(hq, parameters), first)
    assert torch.equal(model.apply(hq.flip(0), parameters[::-1]).flip(0), first)


@pytest.mark.parametrize("model", ALL, ids=label)
def test_the_host_never_waits(device, model, without_waiting):
    parameters, hq = drawn(model, COUNT), crops(COUNT, 128, 96).to(device)
    model.apply(hq, parameters)
    with without_waiting():
        model.apply(hq, parameters)


def test_waiting_is_noticed(device, without_waiting):
    if device.type == "cpu":
        pytest.skip("needs a GPU; the host never waits for a CPU")
    with pytest.raises(RuntimeError, match="synchronizing"), without_waiting():
        torch.ones(3, device=device).sum().item()
