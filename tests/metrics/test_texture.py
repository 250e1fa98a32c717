import math

import pytest
import torch

from ddpm_pairs.metrics.texture import band_power, chroma_noise, native_patches, power_gap_db


def white(n: int, channels: int, side: int, std: float, seed: int = 0) -> torch.Tensor:
    """White noise; `std` in 8-bit units."""
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(seed)) * std / 255


def coordinates(number: int, height: int, width: int) -> torch.Tensor:
    """A picture whose pixels say which picture and which place they are."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.stack((torch.full_like(x, number), y, x))


class TestNativePatches:
    pictures = [coordinates(0, 40, 90), coordinates(1, 16, 16), coordinates(2, 33, 20)]

    def test_patches_are_untouched_crops_equally_spread(self):
        patches = native_patches(self.pictures, n=31, seed=3, size=16)
        assert patches.shape == (31, 3, 16, 16)
        for patch in patches:
            number, top, left = patch[:, 0, 0].int().tolist()
            assert torch.equal(patch, self.pictures[number][:, top : top + 16, left : left + 16])
        assert sorted(patches[:, 0, 0, 0].int().bincount().tolist()) == [10, 10, 11]

    def test_the_seed_decides_and_few_patches_come_from_different_pictures(self):
        first = native_patches(self.pictures, n=2, seed=0, size=16)
        assert torch.equal(first, native_patches(self.pictures, n=2, seed=0, size=16))
        assert first[0, 0, 0, 0] != first[1, 0, 0, 0]
        places = {tuple(native_patches(self.pictures, n=9, seed=s, size=16)[:, 2, 0, 0].tolist()) for s in range(5)}
        assert len(places) == 5

    def test_places_cover_the_whole_picture(self):
        tops = native_patches(self.pictures[2:], n=400, seed=0, size=16)[:, 1, 0, 0]
        assert tops.min() == 0 and tops.max() == 33 - 16

    @pytest.mark.parametrize(
        ("pictures", "words"),
        [
            ([], "got 0 images, 4 patches"),
            ([torch.rand(3, 20, 15)], "image 0: got 15x20 px; expected 16 px or more per side"),
            ([torch.zeros(3, 20, 20, dtype=torch.uint8)], "uint8"),
        ],
    )
    def test_what_cannot_be_cut_is_refused(self, pictures, words):
        with pytest.raises(ValueError, match=words):
            native_patches(pictures, n=4, seed=0, size=16)


class TestChromaNoise:
    def rgb(self, luma: torch.Tensor, cb: torch.Tensor, cr: torch.Tensor) -> torch.Tensor:
        """JFIF's inverse transform, chroma centred at 0."""
        return torch.stack((luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb), dim=1)

    def test_white_chroma_noise_is_measured_in_levels(self):
        cb, cr = white(12, 2, 64, 5.0).unbind(1)
        assert chroma_noise(self.rgb(torch.full_like(cb, 0.5), cb, cr)) == pytest.approx(5.0, rel=0.02)

    def test_edges_hardly_count_and_luminance_noise_not_at_all(self):
        cb, cr = white(12, 2, 64, 3.0).unbind(1)
        cb[..., 20:] += 0.2
        luma = 0.5 + white(12, 1, 64, 20.0, seed=1)[:, 0]
        assert chroma_noise(self.rgb(luma, cb, cr)) == pytest.approx(3.0, rel=0.25)
        assert chroma_noise(luma.unsqueeze(1).expand(-1, 3, -1, -1)) == pytest.approx(0, abs=1e-3)

    def test_small_patches_are_refused(self):
        with pytest.raises(ValueError, match="at least 7 px"):
            chroma_noise(torch.rand(1, 3, 6, 20))


class TestBandPower:
    def test_white_noise_is_flat_at_its_variance(self):
        power = band_power(0.5 + white(300, 1, 64, 6.0).expand(-1, 3, -1, -1))
        assert power.shape == (4,)
        assert torch.allclose(power, torch.full((4,), 36.0, dtype=torch.float64), rtol=0.05)

    def test_colour_noise_counts_by_its_luminance(self):
        expected = 36 * (0.299**2 + 0.587**2 + 0.114**2)
        assert band_power(white(300, 3, 64, 6.0))[-1].item() == pytest.approx(expected, rel=0.03)

    @pytest.mark.parametrize(("frequency", "band"), [(0.35, 3), (0.18, 2), (0.09, 1), (0.045, 0)])
    def test_a_wave_shows_in_its_octave_only(self, frequency, band):
        y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        wave = 0.5 + 0.1 * torch.sin(2 * math.pi * frequency * (0.6 * x + 0.8 * y))
        power = band_power(wave.expand(1, 3, 64, 64))
        assert power.argmax() == band
        others = torch.cat((power[:band], power[band + 1 :]))
        assert others.max() < 0.01 * power[band]

    def test_the_whole_power_of_a_wave_is_found(self):
        # a wave of amplitude A has power A^2 / 2, spread over the bins of its band
        x = torch.arange(64.0)
        wave = (0.5 + 0.1 * torch.sin(2 * math.pi * 0.375 * x)).expand(1, 3, 64, 64)
        frequency = torch.fft.fftfreq(64, dtype=torch.float64)
        radius = torch.hypot(frequency[:, None], frequency[None])
        bins = ((radius > 0.25) & (radius <= 0.5)).sum()
        assert (band_power(wave)[-1] * bins / 64**2).item() == pytest.approx(25.5**2 / 2, rel=1e-3)

    def test_brightness_does_not_count(self):
        assert band_power(torch.full((2, 3, 32, 32), 0.8)).max() < 1e-6

    def test_bands_follow_the_side(self):
        assert [len(band_power(torch.rand(1, 3, side, side))) for side in (8, 16, 63, 64, 128)] == [1, 2, 3, 4, 5]

    def test_wrong_patches_are_refused(self):
        with pytest.raises(ValueError, match="square"):
            band_power(torch.rand(1, 3, 16, 20))
        with pytest.raises(ValueError, match="at least 8 px"):
            band_power(torch.rand(1, 3, 4, 4))


def test_twice_the_amplitude_is_6_db():
    patches = white(4, 3, 32, 4.0)
    assert torch.allclose(
        power_gap_db(band_power(2 * patches), band_power(patches)), torch.tensor(6.0206).double(), atol=1e-3
    )
