"""Layers of StyleGAN2 against scipy and direct sums in float64, one picture and channel at a time."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d, upfirdn

from ddpm_pairs.layers.stylegan2 import (
    Activation,
    Blur,
    EqualLinear,
    ModulatedConv,
    Upsample,
    channels_at,
    conv_layer,
    minibatch_stddev,
)

TAPS = np.array([1.0, 3.0, 3.0, 1.0]) / 8


def double(module, seed=0):
    """The module in float64, every weight random."""
    torch.manual_seed(seed)
    module = module.double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def pictures(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def resampled(x, gain=1.0, up=1, down=1, pad=(0, 0)):
    """FIR resampling of (H, W) by scipy, along one axis after the other; pad counts samples after zero insertion."""
    for axis in (0, 1):
        length = x.shape[axis] * up
        inserted = np.zeros([length if a == axis else side for a, side in enumerate(x.shape)])
        index = [slice(None)] * 2
        index[axis] = slice(0, None, up)
        inserted[tuple(index)] = x
        widths = [(0, 0), (0, 0)]
        widths[axis] = pad
        full = upfirdn(TAPS * math.sqrt(gain), np.pad(inserted, widths), axis=axis)
        valid = [slice(None)] * 2
        valid[axis] = slice(3, full.shape[axis] - 3, down)
        x = full[tuple(valid)]
    return x


class TestResampling:
    @pytest.mark.parametrize(("pad", "gain"), [(1, 1.0), (1, 4.0), (2, 1.0)])
    def test_blur(self, pad, gain):
        x = pictures(2, 3, 6, 7)
        found = Blur(pad, gain).double()(x)
        expected = [[resampled(one.numpy(), gain, pad=(pad, pad)) for one in picture] for picture in x]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-7)

    def test_upsample(self):
        x = pictures(2, 3, 5, 4)
        found = Upsample().double()(x)
        expected = [[resampled(one.numpy(), 4.0, up=2, pad=(2, 1)) for one in picture] for picture in x]
        assert found.shape == (2, 3, 10, 8)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-7)

    def test_upsample_keeps_a_constant(self):
        found = Upsample()(torch.full((1, 1, 6, 6), 0.7))
        assert found[..., 2:-2, 2:-2].numpy() == pytest.approx(0.7)

    def test_skip_of_the_discriminator_is_fir_downsampling(self):
        layer = double(conv_layer(2, 2, 1, down=True, activate=False))
        with torch.no_grad():
            layer[1].weight.copy_(torch.eye(2).view(2, 2, 1, 1) * math.sqrt(2))  # the identity, equalised
        x = pictures(1, 2, 8, 8)
        expected = [resampled(one.numpy(), down=2, pad=(1, 1)) for one in x[0]]
        np.testing.assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-7)

    def test_convolution_that_halves(self):
        layer = double(conv_layer(2, 3, 3, down=True))
        x = pictures(1, 2, 8, 8)
        weight = layer[1].weight.detach().numpy() / math.sqrt(2 * 9)
        blurred = [resampled(one.numpy(), pad=(2, 2)) for one in x[0]]
        for out in range(3):
            total = sum(correlate2d(blurred[i], weight[out, i], mode="valid") for i in range(2))[::2, ::2]
            total = total + layer[2].bias[out].item()
            expected = np.where(total > 0, total, 0.2 * total) * math.sqrt(2)
            np.testing.assert_allclose(layer(x)[0, out].detach().numpy(), expected, atol=1e-7)


class TestModulatedConv:
    @pytest.mark.parametrize(("side", "up"), [(1, False), (3, False), (3, True)])  # only 3x3 ones double the sides
    @pytest.mark.parametrize("demodulate", [False, True])
    def test_against_modulated_weights_of_each_picture(self, side, demodulate, up):
        layer = double(ModulatedConv(3, 4, side, demodulate, up, style_dim=6))
        x, w = pictures(3, 3, 4, 5), pictures(3, 6, seed=2)
        found = layer(x, w).detach().numpy()
        weight = layer.weight[0].detach().numpy()
        matrix, bias = (one.detach().numpy() for one in (layer.modulation.weight, layer.modulation.bias))
        for n in range(3):
            style = matrix @ w[n].numpy() / math.sqrt(6) + bias
            for out in range(4):
                modulated = weight[out] * style[:, None, None] / math.sqrt(3 * side**2)
                if demodulate:
                    modulated = modulated / math.sqrt((modulated**2).sum() + 1e-8)
                total = 0
                for i in range(3):
                    channel = x[n, i].numpy()
                    if up:
                        inserted = np.zeros((2 * 4 - 1, 2 * 5 - 1))
                        inserted[::2, ::2] = channel
                        total = total + convolve2d(inserted, modulated[i], mode="full")
                    else:
                        total = total + correlate2d(channel, modulated[i], mode="same")
                expected = resampled(total, 4.0, pad=(1, 1)) if up else total
                np.testing.assert_allclose(found[n, out], expected, atol=1e-7)

    def test_demodulated_maps_have_unit_variance(self):
        torch.manual_seed(0)
        layer = ModulatedConv(64, 64, 3)
        x = torch.randn(2, 64, 32, 32)
        deviations = layer(x, torch.randn(2, 512))[..., 1:-1, 1:-1].std(dim=(2, 3))
        assert deviations.mean().item() == pytest.approx(1, abs=0.05)


class TestMinibatchStddev:
    def test_against_loops(self):
        x = pictures(3, 2, 4, 4)
        deviations = []
        for c in range(2):
            for i in range(4):
                for j in range(4):
                    values = [x[n, c, i, j].item() for n in range(3)]
                    mean = sum(values) / 3
                    deviations.append(math.sqrt(sum((value - mean) ** 2 for value in values) / 3 + 1e-8))
        found = minibatch_stddev(x)
        assert found.shape == (3, 3, 4, 4)
        assert torch.equal(found[:, :2], x)
        np.testing.assert_allclose(found[:, 2].numpy(), sum(deviations) / 32, rtol=1e-6)

    def test_equal_pictures_do_not_differ(self):
        x = torch.randn(1, 2, 4, 4).expand(5, -1, -1, -1).clone().requires_grad_()
        found = minibatch_stddev(x)
        found.sum().backward()
        assert found[:, 2].max().item() == pytest.approx(1e-4)
        assert torch.isfinite(x.grad).all()


class TestEqualised:
    def test_linear(self):
        layer = double(EqualLinear(5, 3, lr_multiplier=0.01, activate=True))
        x = pictures(2, 5)
        total = x.numpy() @ layer.weight.detach().numpy().T * 0.01 / math.sqrt(5) + layer.bias.detach().numpy() * 0.01
        expected = np.where(total > 0, total, 0.2 * total) * math.sqrt(2)
        np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12)

    def test_start(self):
        torch.manual_seed(0)
        layer = EqualLinear(200, 300, bias=1.0, lr_multiplier=0.01)
        assert layer.weight.std().item() == pytest.approx(100, rel=0.02)
        assert (layer.bias == 1).all()
        assert layer(torch.randn(500, 200)).std().item() == pytest.approx(1, rel=0.05)

    def test_activation(self):
        layer = Activation(2)
        with torch.no_grad():
            layer.bias.copy_(torch.tensor([1.0, -3.0]))
        found = layer(torch.full((1, 2, 1, 1), 2.0)).flatten()
        assert found.tolist() == pytest.approx([3 * math.sqrt(2), -0.2 * math.sqrt(2)])


class TestChannels:
    def test_of_the_released_sizes(self):
        assert channels_at(512, 2, 1.0) == {
            4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64,
        }  # fmt: skip
        assert channels_at(256, 1, 0.5) == {4: 256, 8: 256, 16: 256, 32: 256, 64: 128, 128: 64, 256: 32}

    @pytest.mark.parametrize("size", [0, 8, 48, 4096])
    def test_other_sizes(self, size):
        with pytest.raises(ValueError, match=f"size: got {size}; expected a power of two from 16 to 2048"):
            channels_at(size, 2, 1.0)

    def test_too_narrow(self):
        with pytest.raises(ValueError, match="leaves no channels at 512 px"):
            channels_at(512, 1, 0.01)
