"""The discriminator against the same network written with torch's own spectral norm."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import spectral_norm

from ddpm_pairs.restoration.networks.unet_discriminator import SpectralConv2d, UNetDiscriminator


def with_torchs_hook(nf):
    """Layers under the official names, normalised by torch."""
    layers = nn.Module()
    layers.conv0 = nn.Conv2d(3, nf, 3, 1, 1)
    for number, width in ((1, 1), (2, 2), (3, 4)):
        setattr(layers, f"conv{number}", spectral_norm(nn.Conv2d(nf * width, nf * width * 2, 4, 2, 1, bias=False)))
    for number, inputs, outputs in ((4, 8, 4), (5, 4, 2), (6, 2, 1), (7, 1, 1), (8, 1, 1)):
        conv = nn.Conv2d(nf * inputs, nf * outputs, 3, 1, 1, bias=False)
        setattr(layers, f"conv{number}", spectral_norm(conv))
    layers.conv9 = nn.Conv2d(nf, 1, 3, 1, 1)
    return layers


def judged(layers, x):
    def relu(x):
        return F.leaky_relu(x, 0.2)

    def up(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    x0 = relu(layers.conv0(x))
    x1 = relu(layers.conv1(x0))
    x2 = relu(layers.conv2(x1))
    x3 = relu(layers.conv3(x2))
    x4 = relu(layers.conv4(up(x3))) + x2
    x5 = relu(layers.conv5(up(x4))) + x1
    x6 = relu(layers.conv6(up(x5))) + x0
    return layers.conv9(relu(layers.conv8(relu(layers.conv7(x6)))))


@pytest.fixture
def pair():
    torch.manual_seed(0)
    official, ours = with_torchs_hook(4), UNetDiscriminator(4)
    ours.load_state_dict(official.state_dict())
    return official, ours


def test_parameters_of_the_published_size():
    with torch.device("meta"):
        net = UNetDiscriminator()
    assert round(sum(weight.numel() for weight in net.parameters()) / 1e6, 3) == 4.377


def test_same_names_shapes_logits_and_gradients(pair):
    official, ours = pair
    assert {n: v.shape for n, v in ours.state_dict().items()} == {n: v.shape for n, v in official.state_dict().items()}
    x = torch.rand(2, 3, 16, 24)
    for _ in range(2):  # each step moves the power iteration
        expected, logits = judged(official, x), ours(x)
        torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-5)
    assert logits.shape == (2, 1, 16, 24)
    expected.square().mean().backward()
    logits.square().mean().backward()
    references = dict(official.named_parameters())
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, references[name].grad, atol=1e-6, rtol=1e-4)
    for name, value in official.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    official.eval(), ours.eval()
    torch.testing.assert_close(ours(x), judged(official, x), atol=1e-6, rtol=1e-5)
    assert torch.equal(ours(x), ours(x))


def test_singular_value_becomes_one():
    torch.manual_seed(0)
    conv = SpectralConv2d(3, 5, 3)
    for _ in range(200):
        conv(torch.rand(1, 3, 4, 4))
    with torch.no_grad():
        normalised = conv.weight_orig.flatten(1) / conv._singular_value()
    assert torch.linalg.svdvals(normalised)[0].item() == pytest.approx(1, abs=1e-4)


def test_deep_copy_after_a_step_and_two_forwards_before_the_backward(pair):
    _, ours = pair
    real, fake = torch.rand(2, 1, 3, 8, 8)
    (ours(real).mean() - ours(fake).mean()).backward()
    again = copy.deepcopy(ours)
    assert torch.equal(again.eval()(real), ours.eval()(real))
    with torch.no_grad():
        again.conv1.weight_orig.add_(1)
    assert not torch.equal(again(real), ours(real))


def test_ddp_overwrites_buffers_between_two_forwards(pair, tmp_path):
    _, ours = pair
    alone = copy.deepcopy(ours)
    real, fake = torch.rand(2, 1, 3, 8, 8)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(ours)
        (wrapped(real).mean() - wrapped(fake).mean()).backward()
    finally:
        distributed.destroy_process_group()
    (alone(real).mean() - alone(fake).mean()).backward()
    for weight, reference in zip(ours.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, reference.grad)


def test_bfloat16(pair):
    _, ours = pair
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        for _ in range(10):
            ours(x)
        expected = ours.eval()(x)
        with torch.autocast("cpu", torch.bfloat16):
            logits = ours(x)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.02, rtol=0)
