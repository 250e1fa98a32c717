import io
import json
import math
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from tiny_ddpm import save_safetensors, tiny_denoiser

from ddpm_pairs.degradations import Blur, Chain, RealESRGAN, Sampling, Walk
from ddpm_pairs.degradations.by_name import build
from ddpm_pairs.degradations.walk import check_t, draw_t, synthesize
from ddpm_pairs.diffusion import Schedule
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.images.pixels import eight_bit, psnr_against_hq
from ddpm_pairs.tensors import generator_for


def test_t_is_uniform_over_both_ends():
    low, high, count = 5, 20, 8000
    drawn = np.array([draw_t(generator_for(0, f"key {number}"), low, high) for number in range(count)])
    observed = np.bincount(drawn, minlength=high + 1)
    assert observed[:low].sum() == 0 and observed[low:].size == 16
    expected = count / 16
    # The 0.9999 quantile of chi-square with 15 degrees of freedom is 44.3.
    assert ((observed[low:] - expected) ** 2 / expected).sum() < 44.3


def test_t_follows_the_weights_of_its_bands():
    weights, count = [3, 0, 1.5], 6000
    drawn = np.array([draw_t(generator_for(0, f"key {number}"), 10, 20, weights) for number in range(count)])
    observed = np.bincount(drawn, minlength=21)
    # 11 values of t: bands 10-12, 13-16 and 17-20
    expected = np.array([2 / 9] * 3 + [0] * 4 + [1 / 12] * 4) * count
    assert observed[:10].sum() == 0 and (observed[13:17] == 0).all()
    there = expected > 0
    chi_square = ((observed[10:][there] - expected[there]) ** 2 / expected[there]).sum()
    assert chi_square < 27.9  # the 0.9999 quantile with 6 degrees of freedom
    assert draw_t(generator_for(3, "a"), 0, 2, [0, 0, 5]) == 2


@pytest.mark.parametrize(
    ("t", "text"),
    [
        ((0, 9, []), "t_weights: got 0 weights; expected 1 to 10"),
        ((3, 4, [1, 1, 1]), "t_weights: got 3 weights; expected 1 to 2, the number of t in 3..4"),
        ((0, 9, [1, -1]), r"t_weights: got \[1, -1\]; expected numbers of 0 or more"),
        ((0, 9, [0.0, 0.0]), "not all of them 0"),
        ((0, 9, [1, math.inf]), "t_weights: got"),
        ((0, 9, [1, math.nan]), "t_weights: got"),
    ],
)
def test_weights_are_checked(t, text):
    with pytest.raises(ValueError, match=text):
        check_t(*t)


def test_generators_follow_blake2b():
    seed = int.from_bytes(blake2b(b"3\x1fa/b\x1fnoise", digest_size=8).digest(), "big") & (2**63 - 1)
    expected = torch.randn(4, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.randn(4, generator=generator_for(3, "a/b", "noise")), expected)


def walk(start="real_esrgan", **options):
    runtime = Runtime(slots=4, precision="fp32")
    return Walk(
        start, tiny_denoiser(), **{"t": (0, 40), "sampling": Sampling(num_steps=3), "runtime": runtime} | options
    )


def images(count, height=64, width=96):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_draws_of_the_start_are_those_without_a_walk():
    parameters = walk().draw(generator_for(5, "a", "degradation"))
    alone = generator_for(5, "a", "degradation")
    assert parameters["start"] == {"name": "real_esrgan", "parameters": RealESRGAN().draw(alone)}
    assert parameters["t"] == draw_t(alone, 0, 40)
    seeds = [parameters["noise_seed"], parameters["steps_seed"]]
    assert seeds == torch.randint(2**53, (2,), generator=alone).tolist()
    assert json.loads(json.dumps(parameters)) == parameters


@pytest.mark.parametrize("tile", [256, 64])
def test_rows_depend_on_their_image_alone_however_many_there_are(tile):
    """Five images in two groups of four, the second filled up; and tiled, one by one."""
    height, width = (64, 96) if tile == 256 else (272, 64)
    degradation, hq, keys = walk(tile=tile), images(5, height, width), list("abcde")
    lq = degradation(hq, seed=3, keys=keys)
    assert lq.shape == (5, 3, height // 4, width // 4)
    assert torch.equal((lq * 255).round() / 255, lq) and lq.min() >= 0 and lq.max() <= 1
    for rows in ([4], [3, 1], [2, 0, 4, 1, 3]):
        assert torch.equal(degradation(hq[rows], seed=3, keys=[keys[n] for n in rows]), lq[rows])
    others = images(5, height, width).flip(0)
    others[2] = hq[2]
    assert torch.equal(degradation(others, seed=3, keys=["v", "w", "c", "x", "y"])[2], lq[2])
    assert not torch.equal(degradation(hq, seed=4, keys=keys), lq)


def test_the_noise_is_that_of_its_seeds():
    """Against the steps of the method written down here."""
    denoiser, initial = tiny_denoiser(), images(1, 16, 16)
    drawn = {"t": 7, "noise_seed": 12, "steps_seed": 13}
    noise = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(12))
    alpha_bar = denoiser.schedule.alpha_bars[6].float()
    x = (initial * 2 - 1) * alpha_bar.sqrt() + (1 - alpha_bar).sqrt() * noise
    plan, previous = Sampling().plan(denoiser.schedule, 7), torch.zeros_like(x)
    steps = torch.Generator().manual_seed(13)
    with torch.inference_mode():
        for index, (a_x, a_m0, a_m1, a_z) in zip(plan.indices, plan.coefficients, strict=True):
            clean = denoiser(x, torch.tensor([index]))
            z = torch.randn(3, 16, 16, generator=steps) if a_z > 0 else 0
            x, previous = a_x * x + a_m0 * clean + a_m1 * previous + a_z * z, clean
        expected = ((x + 1) / 2).clamp(0, 1)
        assert (synthesize(denoiser, initial, [drawn], Sampling()) - expected).abs().max() < 1e-5
        other = synthesize(denoiser, initial, [drawn | {"steps_seed": 1}], Sampling())
        assert (other - expected).abs().max() > 1e-3


def test_sides_are_padded_and_cropped_back():
    degradation = walk(Chain([Blur()], 2))
    assert degradation.multiple == 2 * degradation.denoiser.multiple > 2
    assert degradation(images(2, 67, 95)).shape == (2, 3, 33, 47)
    with pytest.raises(ValueError, match="expected multiples of 4"):
        degradation.apply(images(1, 66, 64), [degradation.draw(torch.Generator())])


def test_the_result_can_be_trained_on():
    """LQ made inside a training loop, whose gradients go through the convolution that reads it."""
    lq = walk()(images(2).requires_grad_())
    assert not lq.requires_grad and not lq.is_inference()
    torch.nn.Conv2d(3, 3, 3)(lq).sum().backward()


def test_a_walk_may_start_from_a_walk():
    inner = walk("bicubic", t=(3, 3))
    outer = walk(inner, t=(2, 2))
    hq = images(2)
    both = outer(hq, keys=["a", "b"])
    parameters = [outer.draw(generator_for(0, key, "degradation")) for key in "ab"]
    assert parameters[0]["start"]["name"] == "walk" and outer.facts(parameters[0])["t"] == 2
    initial, lq = outer.apply_with_start(hq, parameters)
    assert torch.equal(lq, both) and torch.equal(
        initial, inner.apply(hq, [p["start"]["parameters"] for p in parameters])
    )


def test_t_beyond_the_training_is_refused():
    with pytest.raises(ValueError, match="Walk.t: got t up to 61; expected 60 or less, the t_max of the DDPM"):
        walk(t=(0, 61))


def test_spec_rebuilds_it(tmp_path):
    path = save_safetensors(tiny_denoiser(), tmp_path / "tiny.safetensors")
    first = Walk(Chain([Blur(sigma=(1, 2))], 2), path, (3, 9), (1, 2), "fast", 128, Runtime(4, None, "fp32"))
    spec = json.loads(json.dumps(first.spec()))
    assert spec["weights_sha256"] == sha256(Path(path).read_bytes()).hexdigest()
    again = build({name: spec[name] for name in ("class_path", "init_args")})
    assert again.spec() == spec
    again.runtime = first.runtime
    assert torch.equal(again(images(2)), first(images(2)))


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
        ({"sampler": "euler"}, "sampler: got 'euler'"),
        ({"num_steps": 0}, "num_steps: got 0"),
        ({"eta": 1.5}, "eta: got 1.5"),
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
        assert sampling.facts(schedule, t)["evaluations"] == len(sampling.plan(schedule, t)) <= min(t, expected[1] or t)


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode: got 'slow'; expected one of fast, default, high, exact"):
        Sampling.of_mode("slow")


def test_t_zero_is_untouched_beside_others():
    denoiser = tiny_denoiser()
    initial = torch.rand(4, 3, 16, 16)
    with torch.inference_mode():
        drawn = [{"t": t, "noise_seed": n, "steps_seed": n} for n, t in enumerate([0, 30, 0, 1])]
        lq = synthesize(denoiser, initial, drawn, Sampling())
    assert torch.equal(lq[0], initial[0]) and torch.equal(lq[2], initial[2])
    assert not torch.equal(lq[1], initial[1]) and not torch.equal(lq[3], initial[3])
    assert lq.min() >= 0 and lq.max() <= 1
