"""The networks of DSGAN, DASR and PDM: their sizes, what they can represent, and how they are degradations."""

import json

import pytest
import torch
from tiny_learned import small_pdm
from torch.nn import functional as F

from ddpm_pairs.degradations import Learned, by_name
from ddpm_pairs.degradations.base import degrade
from ddpm_pairs.degradations.learned.dasr import DASR
from ddpm_pairs.degradations.learned.discriminators import PatchDiscriminator
from ddpm_pairs.degradations.learned.dsgan import DSGAN
from ddpm_pairs.degradations.learned.files import load_synthesizer, save_synthesizer
from ddpm_pairs.degradations.learned.pdm import HARMONICS, KERNEL_SIDE, PDM, quantized
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import resize_bicubic


def millions(net):
    return sum(parameter.numel() for parameter in net.parameters()) / 1e6


def stirred(net, seed=0):
    """Weights as after some training, so that biases and running statistics count too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in [*net.parameters(), *(one for one in net.buffers() if one.is_floating_point())]:
            value.add_((torch.rand(value.shape, generator=generator) - 0.5) * 0.2)
    return net.eval()


def photo(height, width, n=1):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(height))


def dsgan():
    return DSGAN(4, 8, 2)


def dasr():
    return DASR(4, 8, 2)


def dasr_x2():
    return DASR(2, 8, 1)


def gray_pdm():
    return small_pdm(gray_noise=True)


SMALL = [dsgan, dasr, dasr_x2, small_pdm, gray_pdm]


class TestSizes:
    @pytest.mark.parametrize(
        ("net", "expected"),
        [
            (DSGAN(), 0.594),
            (DASR(), 0.668),
            (PDM(), 0.694),
            (PatchDiscriminator(), 1.030),
            (PatchDiscriminator("haar", norm="instance"), 1.039),
        ],
        ids=lambda one: type(one).__name__,
    )
    def test_of_the_originals(self, net, expected):
        assert round(millions(net), 3) == expected

    @pytest.mark.parametrize("make", SMALL)
    def test_shapes(self, make):
        net = make().eval()
        hq = photo(64, 96, 2)
        made = net.make(hq, [torch.Generator().manual_seed(n) for n in range(2)])
        expected = (2, 3, 64 // net.scale, 96 // net.scale)
        assert made.lq.shape == expected
        assert (made.noise is not None) == net.adds_noise
        assert net.synthesize(hq[:1], net.draw(torch.Generator())).shape == (1, *expected[1:])

    @pytest.mark.parametrize("view", ["box", "gaussian", "haar", "image"])
    def test_a_logit_per_patch(self, view):
        judge = PatchDiscriminator(view, (4, 4), norm="instance")
        assert judge(photo(16, 24, 2)).shape == (2, 1, 16 // judge.multiple, 24 // judge.multiple)

    def test_a_patch_has_its_radius(self):
        judge = PatchDiscriminator("image", (4, 4, 4), 3, "none")
        image = photo(16, 16).requires_grad_()
        judge(image)[0, 0, 8, 8].backward()
        seen = image.grad.abs().sum((0, 1)).nonzero()
        assert (seen - 8).abs().max() == judge.radius == 3

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (lambda: DSGAN(width=0), "dsgan width: got 0; expected 1 or more"),
            (lambda: DASR(scale=3), "dasr scale: got 3"),
            (lambda: PDM(initial_sigma=0.0), "pdm initial_sigma: got 0.0"),
            (
                lambda: PatchDiscriminator("edges"),
                "discriminator.view: got 'edges'; expected box, gaussian, haar, image",
            ),
            (lambda: PatchDiscriminator(widths=()), r"discriminator.widths: got \[\]"),
            (lambda: PatchDiscriminator(side=4), "discriminator.side: got 4; expected an odd number from 1"),
            (lambda: PatchDiscriminator(window=1), "discriminator.window: got 1; expected an odd number from 3"),
        ],
    )
    def test_wrong(self, make, said):
        with pytest.raises(UserError, match=said):
            make()


class TestHighFrequencies:
    def test_of_a_constant_are_gray(self):
        for view in ("box", "gaussian", "haar"):
            judge = PatchDiscriminator(view)
            seen = judge.view(torch.full((1, 3, 8, 8), 0.9))
            torch.testing.assert_close(seen, torch.full_like(seen, 0.5))


class TestQuantization:
    """In levels of 1/255; tolerances are those of the docstring of ``quantized``."""

    def test_is_close_to_rounding_away_from_the_middle_between_levels(self):
        levels = torch.linspace(0, 3, 3001, dtype=torch.float64)
        found = 255 * quantized(levels.view(1, 1, 1, -1) / 255).flatten()
        distance = (levels - levels.floor() - 0.5).abs()
        bound = 1 / ((HARMONICS + 1) * torch.pi * torch.sin(torch.pi * distance))
        away = distance > 0.1
        error = (found - levels.round()).abs()
        assert (error <= bound)[away].all()
        assert error[away].max() < 0.1 and error[distance > 0.4].max() < 0.031

    def test_has_the_gradient_of_the_image_on_average(self):
        images = (torch.arange(256 * 32, dtype=torch.float64) / 32 / 255).view(1, 1, 1, -1).requires_grad_()
        quantized(images).sum().backward()
        assert images.grad.mean().item() == pytest.approx(1, abs=1e-6)

    def test_is_what_a_pdm_without_a_noise_network_trains_with(self):
        net = PDM(4, 8, 1, noise_width=None)
        hq, rows = photo(64, 64, 2), [torch.Generator().manual_seed(n) for n in range(2)]
        made = net.make(hq, rows)
        assert made.noise is None
        rows = [torch.Generator().manual_seed(n) for n in range(2)]
        net.kernels.eval()
        levels = 255 * net.make(hq, rows).lq
        assert (levels - levels.round()).abs().mean() < 0.1


class TestTiles:
    """A large image equals the same image at once."""

    @pytest.mark.parametrize("make", SMALL)
    def test_equal_the_whole(self, make, monkeypatch):
        net = stirred(make())
        hq, drawn = photo(4 * 52, 4 * 75), net.draw(torch.Generator().manual_seed(0))
        with torch.no_grad():
            whole = net.synthesize(hq, drawn)
            monkeypatch.setattr(type(net), "tile", 32)
            tiles = net.synthesize(hq, drawn)
        assert net.radius < 32
        torch.testing.assert_close(tiles, whole, rtol=0, atol=2e-6)

    @pytest.mark.parametrize("make", SMALL[:4])
    def test_need_the_whole_margin(self, make, monkeypatch):
        net = stirred(make())
        hq, drawn = photo(4 * 40, 4 * 40), net.draw(torch.Generator().manual_seed(0))
        with torch.no_grad():
            whole = net.synthesize(hq, drawn)
            monkeypatch.setattr(type(net), "tile", 32)
            monkeypatch.setattr(net, "radius", 0)
            assert (net.synthesize(hq, drawn) - whole).abs().max() > 1e-4


class TestPDM:
    def test_the_original_starts_almost_uniform(self):
        kernels = PDM().kernels_of(torch.zeros(2, 3, 1, 1))
        assert kernels.shape == (2, KERNEL_SIDE, KERNEL_SIDE)
        torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(2))
        assert 0.004 < kernels.max() < 0.009

    @pytest.mark.parametrize("sigma", [0.8, 2.0])
    def test_represents_a_gaussian(self, sigma):
        net = PDM(4, initial_sigma=sigma)
        offset = torch.arange(KERNEL_SIDE) - KERNEL_SIDE // 2 - 0.5  # the center of a 4x4 cell
        line = torch.exp(-(offset**2) / (2 * sigma**2))
        expected = torch.outer(line, line) / line.sum() ** 2
        with torch.no_grad():
            net.kernels[-1].weight.zero_()
        torch.testing.assert_close(net.kernels_of(torch.randn(2, 3, 1, 1))[0], expected, rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize("scale", [1, 2, 4])
    def test_represents_a_delta(self, scale):
        net = PDM(scale, 8, 1, noise_width=None)
        with torch.no_grad():
            net.kernels[-1].weight.zero_()
            net.kernels[-1].bias.zero_()[KERNEL_SIDE**2 // 2] = 30.0
        hq, center = photo(48, 40), (scale - 1) // 2
        lq = net.eval().synthesize(hq, net.draw(torch.Generator()))
        torch.testing.assert_close(lq, hq[..., center::scale, center::scale])

    def test_blur_is_a_correlation_with_reflected_borders(self):
        net, hq = PDM(4, 8, 1, noise_width=None), photo(32, 48, 2)
        kernels = torch.rand(2, KERNEL_SIDE, KERNEL_SIDE)
        found = net.blur(hq, kernels)
        padded = F.pad(hq, (12,) * 4, mode="reflect")
        for n, y, x in ((0, 0, 0), (1, 7, 11), (1, 3, 5)):
            window = padded[n, :, 3 + 4 * y :, 3 + 4 * x :][:, :KERNEL_SIDE, :KERNEL_SIDE]
            torch.testing.assert_close(found[n, :, y, x], (window * kernels[n]).sum((1, 2)))

    def test_a_gaussian_keeps_lq_aligned_with_hq(self):
        net = PDM(4, 8, 1, noise_width=None, initial_sigma=1.5)
        with torch.no_grad():
            net.kernels[-1].weight.zero_()
        ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64).contiguous()
        lq = net.eval().synthesize(ramp, net.draw(torch.Generator()))
        torch.testing.assert_close(
            lq[..., 4:-4, 4:-4], resize_bicubic(ramp, (16, 16))[..., 4:-4, 4:-4], atol=1e-4, rtol=0
        )

    def test_noise_gives_no_gradient_to_the_kernel(self):
        net = small_pdm()
        made = net.make(photo(64, 64, 2), [torch.Generator().manual_seed(n) for n in range(2)])
        made.noise.square().sum().backward()
        assert all(parameter.grad is None for parameter in net.kernels.parameters())
        assert all(parameter.grad is not None for parameter in net.noise.parameters())

    def test_gray_noise(self):
        net = stirred(small_pdm(gray_noise=True))
        hq = torch.full((1, 3, 64, 64), 0.5)
        lq = net.synthesize(hq, net.draw(torch.Generator().manual_seed(0)))
        torch.testing.assert_close(lq[:, :1].expand_as(lq), lq)
        assert lq.std() > 0

    def test_kernels_and_noise_are_random_and_come_from_their_seeds(self):
        degradation = Learned(stirred(small_pdm()))
        generator = torch.Generator().manual_seed(0)
        first, second = degradation.draw(generator), degradation.draw(generator)
        assert first.keys() == {"kernel_seed", "noise_seed"} and first != second
        hq = photo(64, 64)
        drawn = json.loads(json.dumps(first))
        assert torch.equal(degradation.apply(hq, [drawn]), degradation.apply(hq, [first]))
        for name in first:
            other = first | {name: second[name]}
            assert not torch.equal(degradation.apply(hq, [other]), degradation.apply(hq, [first]))


@pytest.mark.parametrize("make", [dsgan, dasr, small_pdm])
class TestAsDegradations:
    def test_rows_are_independent(self, make):
        degradation = Learned(stirred(make()))
        hq = photo(64, 96, 3)
        drawn = [degradation.draw(torch.Generator().manual_seed(n)) for n in range(3)]
        together = degradation.apply(hq, drawn)
        for n in range(3):
            assert torch.equal(degradation.apply(hq[n : n + 1], drawn[n : n + 1])[0], together[n])

    def test_made_again_from_its_file(self, make, tmp_path):
        net = stirred(make())
        save_synthesizer(net, tmp_path / "x.safetensors", {"steps": 3})
        hq = photo(64, 64, 2)
        again = by_name(str(tmp_path / "x.safetensors"))
        assert torch.equal(degrade(again, hq, 5), degrade(Learned(net), hq, 5))
        found, training = load_synthesizer(tmp_path / "x.safetensors")
        assert training == {"steps": 3} and found.init_args == net.init_args
