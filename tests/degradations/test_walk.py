import io
import math
from hashlib import blake2b

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from tiny_ddpm import tiny_denoiser

from ddpm_pairs.degradations.walk import Sampling, check_t, draw_t, generator_for, psnr_against_hq, synthesize
from ddpm_pairs.diffusion import Schedule
from ddpm_pairs.images.pixels import eight_bit


def test_t_is_uniform_over_both_ends():
    low, high, count = 5, 20, 8000
    drawn = np.array([draw_t(0, f"key {number}", low, high) for number in range(count)])
    observed = np.bincount(drawn, minlength=high + 1)
    assert observed[:low].sum() == 0 and observed[low:].size == 16
    expected = count / 16
    # The 0.9999 quantile of chi-square with 15 degrees of freedom is 44.3.
    assert ((observed[low:] - expected) ** 2 / expected).sum() < 44.3


def test_t_follows_the_weights_of_its_bands():
    weights, count = [3, 0, 1.5], 6000
    drawn = np.array([draw_t(0, f"key {number}", 10, 20, weights) for number in range(count)])
    observed = np.bincount(drawn, minlength=21)
    # 11 values of t: bands 10-12, 13-16 and 17-20
    expected = np.array([2 / 9] * 3 + [0] * 4 + [1 / 12] * 4) * count
    assert observed[:10].sum() == 0 and (observed[13:17] == 0).all()
    there = expected > 0
    chi_square = ((observed[10:][there] - expected[there]) ** 2 / expected[there]).sum()
    assert chi_square < 27.9  # the 0.9999 quantile with 6 degrees of freedom
    assert draw_t(3, "a", 0, 2, [0, 0, 5]) == 2


@pytest.mark.parametrize(
    ("t", "text"),
    [
        ((0, 9, []), "t_weights has 0 weights: expected 1 to 10"),
        ((3, 4, [1, 1, 1]), "t_weights has 3 weights: expected 1 to 2, the number of t in 3..4"),
        ((0, 9, [1, -1]), r"t_weights is \[1, -1\]: expected numbers from 0 on"),
        ((0, 9, [0.0, 0.0]), "not all of them 0"),
        ((0, 9, [1, math.inf]), "t_weights is"),
        ((0, 9, [1, math.nan]), "t_weights is"),
    ],
)
def test_weights_are_checked(t, text):
    with pytest.raises(ValueError, match=text):
        check_t(*t)


def test_t_depends_on_seed_and_key_alone():
    draws = [draw_t(3, key, 0, 10**6) for key in ("a", "b", "a/b", "é")]
    torch.manual_seed(99)
    torch.rand(5)
    assert [draw_t(3, key, 0, 10**6) for key in ("a", "b", "a/b", "é")] == draws
    assert len(set(draws)) == 4
    assert draw_t(4, "a", 0, 10**6) != draws[0]
    assert draw_t(3, "a", 7, 7) == 7


def test_generators_follow_blake2b():
    seed = int.from_bytes(blake2b(b"3\x1fa/b\x1fnoise", digest_size=8).digest(), "big") & (2**63 - 1)
    expected = torch.randn(4, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.randn(4, generator=generator_for(3, "a/b", "noise")), expected)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_psnr_is_that_of_skimage_on_a_picture_enlarged_by_pil(photos, scale):
    hq = photos[0][:64, :96]
    small = Image.fromarray(hq).resize((96 // scale, 64 // scale), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=30)
    lq = np.asarray(Image.open(buffer))
    enlarged = np.asarray(Image.fromarray(lq).resize((96, 64), Image.Resampling.BICUBIC))
    reference = peak_signal_noise_ratio(hq, enlarged, data_range=255)
    ours = psnr_against_hq(torch.tensor(hq).permute(2, 0, 1), torch.tensor(lq).permute(2, 0, 1))
    assert ours == pytest.approx(reference, abs=0.01)


def test_psnr_of_equal_pictures_is_not_a_number_for_json():
    picture = torch.full((3, 8, 8), 9, dtype=torch.uint8)
    assert psnr_against_hq(picture, picture) is None
    assert psnr_against_hq(picture, picture + 1) == pytest.approx(20 * math.log10(255), abs=1e-4)


def test_quantize_rounds_to_nearest_and_clamps():
    values = torch.tensor([-0.2, 0.0, 0.49 / 255, 0.51 / 255, 254.6 / 255, 1.0, 1.7])
    assert eight_bit(values).tolist() == [0, 0, 0, 1, 255, 255, 255]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sampler": "euler"}, "sampler 'euler' is unknown"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"eta": 1.5}, "eta is 1.5"),
    ],
)
def test_sampling_checks_its_values(options, text):
    with pytest.raises(ValueError, match=text):
        Sampling(**options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mode": "fast"}, ("sde-dpmsolver++", 8)),
        ({"mode": "default"}, ("sde-dpmsolver++", 12)),
        ({"mode": "high"}, ("sde-dpmsolver++", 20)),
        ({"mode": "exact"}, ("ancestral", None)),
        ({"mode": "exact", "num_steps": 9}, ("ancestral", 9)),
        ({"mode": "high", "sampler": "ddim"}, ("ddim", 20)),
        ({"mode": "exact", "sampler": "dpmsolver++"}, ("dpmsolver++", None)),
    ],
)
def test_modes_and_what_is_given_instead(options, expected):
    sampling = Sampling.of_mode(**options)
    assert (sampling.sampler, sampling.num_steps) == expected
    schedule = Schedule("cosine", 1000)
    for t in (0, 1, 7, 300):
        assert sampling.evaluations(schedule, t) == len(sampling.plan(schedule, t)) <= min(t, expected[1] or t)


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode is slow: expected one of fast, default, high, exact"):
        Sampling.of_mode("slow")


def test_t_zero_is_untouched_beside_others():
    denoiser = tiny_denoiser()
    initial = torch.rand(4, 3, 16, 16)
    with torch.inference_mode():
        lq = synthesize(denoiser, initial, [0, 30, 0, 1], list("abcd"), 0, Sampling())
    assert torch.equal(lq[0], initial[0]) and torch.equal(lq[2], initial[2])
    assert not torch.equal(lq[1], initial[1]) and not torch.equal(lq[3], initial[3])
    assert lq.min() >= 0 and lq.max() <= 1
