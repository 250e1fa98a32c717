from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_ddpm import tiny_denoiser
from torch import nn

from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.degradations import RealESRGAN, Sampling, Walk
from ddpm_pairs.diffusion import Denoiser, Schedule
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.images.find import Failure
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.generator import is_accepted
from ddpm_pairs.synthesis.provenance import run_settings

CPU = torch.device("cpu")


def pictures_of(photos, sizes):
    """Create images `0`, `1`, ... of these (height, width)."""
    made = []
    for number, (height, width) in enumerate(sizes):
        pixels = photos[number % 4][:height, 3 * number : 3 * number + width]
        assert pixels.shape[:2] == (height, width)
        hq = torch.tensor(pixels).permute(2, 0, 1).contiguous()
        made.append(Work(str(number), f"{number}.png", sha256="0" * 64, hq=hq))
    return made


def pairs_of(generator, batches):
    """Return all pairs by key, passing the batches through `predict_step` one by one."""
    pairs = {}
    for number, batch in enumerate(batches):
        fresh = [replace(one) for one in batch]  # a generator modifies its input
        made, failures = generator.predict_step({"pictures": fresh, "failures": []}, number)
        assert failures == []
        pairs.update({pair.record["key"]: pair for pair in made})
    return pairs


def assert_equal_pairs(found, expected):
    for key, pair in found.items():
        assert torch.equal(pair.lq, expected[key].lq), key
        assert torch.equal(pair.hq, expected[key].hq), key
        assert pair.record == expected[key].record


@pytest.mark.parametrize(
    ("degradation", "slots", "threads"),
    [("real_esrgan", 8, 1), ("real_esrgan", 4, 2), ("bicubic", 4, 1), ("bicubic", 8, 2)],
)
def test_neighbours_order_and_batch_size_change_no_bit(photos, degradation, slots, threads):
    generator = PairGenerator(degradation, t_max=40, slots=slots, threads=threads, num_steps=6)
    generator.add_walk(tiny_denoiser())
    generator.prepare(CPU)
    assert torch.get_num_threads() == threads
    pictures = pictures_of(photos, [(64, 64)] * 6 + [(80, 64), (67, 93), (64, 92)])
    expected = pairs_of(generator, [pictures])
    assert sorted(expected) == sorted(picture.key for picture in pictures)
    assert len({pair.record["t"] for pair in expected.values()}) > 4
    assert_equal_pairs(pairs_of(generator, [[picture] for picture in pictures[::4]]), expected)
    assert_equal_pairs(pairs_of(generator, [pictures[8:2:-1], pictures[2::-1]]), expected)


def test_a_fresh_generator_makes_the_same_and_another_seed_others(photos):
    def make(seed):
        generator = PairGenerator("real_esrgan", t_max=40, slots=4, threads=1, num_steps=4, precision="fp32", seed=seed)
        generator.add_walk(tiny_denoiser())
        generator.prepare(CPU)
        torch.manual_seed(seed + 5)  # the global generator must not matter
        return pairs_of(generator, [pictures_of(photos, [(64, 64)] * 2)])

    assert_equal_pairs(make(0), make(0))
    assert any(not torch.equal(pair.lq, make(1)[key].lq) for key, pair in make(0).items())


class Standardized(nn.Module):
    """A network whose rows are not independent: it uses batch statistics."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x_t, timestep):
        x = self.conv(x_t)
        weights = torch.arange(1.0, len(x) + 1).view(-1, 1, 1, 1)
        return x - (weights * x).mean(dim=(0, 2, 3), keepdim=True)


class Silent(nn.Module):
    """Predicts zero noise, so the clean prediction is the noised image."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x_t, timestep):
        return x_t * self.nothing


def test_probe_stops_at_a_network_that_mixes_its_batch():
    generator = PairGenerator("bicubic", t_max=40, threads=1)
    generator.add_walk(Denoiser(Standardized(), Schedule(), t_max=60))
    with pytest.raises(ValueError, match="depends on its neighbors in a batch of 8 .*--model.threads 1") as caught:
        generator.prepare(CPU)
    assert "\n" not in str(caught.value)
    generator = PairGenerator("bicubic", t_max=40, threads=1)
    generator.add_walk(Denoiser(Silent(), Schedule(), t_max=60))
    generator.prepare(CPU)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_sizes_that_do_not_fit_are_cropped_padded_and_cropped_back(photos, scale):
    generator = PairGenerator("bicubic", scale, t_min=20, t_max=20, slots=4, threads=1, num_steps=2)
    generator.add_walk(tiny_denoiser(channels=(8, 8, 8, 8, 8, 8)))
    generator.prepare(CPU)
    assert generator.walk.multiple == 32 * scale
    sizes = [(67, 93), (16 * scale, 16 * scale), (81, 64), (64, 64)]
    pairs = pairs_of(generator, [pictures_of(photos, sizes)])
    for picture, (height, width) in zip(pictures_of(photos, sizes), sizes, strict=True):
        pair = pairs[picture.key]
        cropped = (height // scale * scale, width // scale * scale)
        assert tuple(pair.hq.shape[1:]) == cropped
        assert tuple(pair.lq.shape[1:]) == (height // scale, width // scale)
        assert torch.equal(pair.hq, picture.hq[:, : cropped[0], : cropped[1]])
        assert pair.record["hq_size"] == [cropped[1], cropped[0]]
        assert pair.record["lq_size"] == [width // scale, height // scale]


def test_padding_does_not_move_the_picture(photos):
    """With a network that does not change images, LQ is close to the initial LQ of the uncropped image."""
    generator = PairGenerator("bicubic", scale=4, t_min=1, t_max=1, slots=4, threads=1)
    network = Silent()
    network.multiple = 32
    generator.add_walk(Denoiser(network, Schedule(), t_max=60))
    generator.prepare(CPU)
    (picture,) = pictures_of(photos, [(67, 93)])
    (pair,) = pairs_of(generator, [[picture]]).values()
    whole = Image.fromarray(picture.hq[:, :64, :92].permute(1, 2, 0).numpy())
    reference = np.asarray(whole.resize((23, 16), Image.Resampling.BICUBIC)).astype(int)
    gap = np.abs(pair.lq.permute(1, 2, 0).numpy().astype(int) - reference)
    inner = gap[2:-2, 2:-2]
    assert np.median(inner) <= 1 and inner.max() <= 8  # the noise of one step is one or two levels


def test_too_small_pictures_become_failures(photos):
    generator = PairGenerator("bicubic", scale=4, t_max=0, threads=1)
    pictures = pictures_of(photos, [(63, 64), (64, 64), (66, 67)])
    earlier = Failure("broken.png", "truncated")
    pairs, failures = generator.predict_step({"pictures": pictures, "failures": [earlier]}, 0)
    assert sorted(pair.record["key"] for pair in pairs) == ["1", "2"]
    assert failures[0] == earlier
    assert failures[1].source == "0.png" and "64x63" in failures[1].reason and "64 px" in failures[1].reason


@pytest.mark.parametrize("seed", [0, 12])
def test_handcrafted_pairs_equal_the_degradation_alone(photos, seed):
    generator = PairGenerator("real_esrgan", scale=4, t_max=0, slots=4, threads=1, seed=seed)
    generator.prepare(CPU)
    pictures = pictures_of(photos, [(67, 93), (64, 92), (65, 95)])
    pairs = pairs_of(generator, [pictures])
    degradation = RealESRGAN(4)
    for picture in pictures:
        text = f"{seed}\x1f{picture.key}\x1fdegradation".encode()
        drawn_from = int.from_bytes(blake2b(text, digest_size=8).digest(), "big") & (2**63 - 1)
        parameters = degradation.draw(torch.Generator().manual_seed(drawn_from))
        canvas = (picture.hq[:, :64, :92].float() / 255).expand(4, -1, -1, -1)
        lq = (degradation.apply(canvas, [parameters] * 4)[0] * 255).round().to(torch.uint8)
        record = pairs[picture.key].record
        assert torch.equal(pairs[picture.key].lq, lq)
        assert record["degradation"] == {"name": "real_esrgan", "parameters": parameters}
        assert (record["t"], record["logsnr"], record["evaluations"]) == (0, None, 0)
        assert record["psnr"] == record["psnr_initial"]


def test_a_flat_picture_has_no_psnr_and_its_record_is_json():
    generator = PairGenerator("bicubic", scale=4, t_max=0, threads=1)
    flat = Work("flat", "flat.png", sha256="0" * 64, hq=torch.full((3, 64, 64), 128, dtype=torch.uint8))
    (pair,) = pairs_of(generator, [[flat]]).values()
    assert pair.record["psnr"] is None and pair.record["psnr_initial"] is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"slots": 5}, "slots: got 5; expected 4 or 8"),
        ({"threads": 3}, "threads: got 3; expected 1 or 2 or 4"),
        ({"t_min": 9, "t_max": 8}, "t_min and t_max: got 9 and 8"),
        ({"t_min": -1}, "t_min and t_max: got -1 and"),
        ({"t_max": None}, "and None; expected 0 <= t_min <= t_max"),
        ({"scale": 3}, "scale: got 3"),
        ({"degradation": "blurr"}, "degradation: got 'blurr'"),
        (
            {"degradation": RealESRGAN(2), "scale": 4},
            "--model.scale: got 4; expected 2, the scale of degradation real_esrgan; leave --model.sc",
        ),
        (
            {"degradation": "pairs.yaml", "scale": 4},
            "--model.scale: got 4; expected 1, the scale of degradation on_hq_grid",
        ),
        ({"degradation": "bicubic", "scale": 1, "t_max": 0}, "leaves HQ unchanged, and so does t_max 0; use"),
        ({"variants": 0}, "--model.variants: got 0; expected 1 or more"),
        ({"psnr_drop": -0.5}, "--model.psnr_drop: got -0.5; expected 0 or more"),
        ({"tile": 63}, "--model.tile: got 63; expected 64 or more"),
        ({"t_weights": [-1.0]}, "t_weights: got"),
        ({"gray_hq": 1.5}, "share of gray HQ images: got 1.5; expected a number from 0 to 1"),
    ],
)
def test_options_are_checked(options, text):
    with pytest.raises(ValueError, match=text) as caught:
        PairGenerator(**options)
    assert "\n" not in str(caught.value)


def test_a_t_beyond_the_training_is_refused():
    with pytest.raises(ValueError, match="--model.t_max: got 61; expected 60 or less, the t_max of the checkpoint"):
        PairGenerator(t_max=61).add_walk(tiny_denoiser())


def test_a_checkpoint_is_needed_for_a_walk_alone():
    generator = PairGenerator(t_max=60)
    with pytest.raises(ValueError, match="--ckpt_path"):
        generator.check()
    generator.add_walk(tiny_denoiser())
    generator.check()
    PairGenerator(t_max=0).check()


def test_scale_is_said_once(photos):
    assert PairGenerator().scale == 4 and PairGenerator("bsrgan", 2).scale == 2
    assert PairGenerator(RealESRGAN(2)).scale == 2 and PairGenerator("pairs.yaml").scale == 1


def test_a_walk_as_the_degradation_makes_the_pairs_of_one_that_is_added(photos):
    """In Python, a walk is passed like any other degradation."""
    runtime = Runtime(slots=4, threads=1, precision="fp32")
    walk = Walk("real_esrgan", tiny_denoiser(), (5, 40), sampling=Sampling(num_steps=3), runtime=runtime)
    given = PairGenerator(walk, t_max=0, seed=2)
    added = PairGenerator("real_esrgan", t_min=5, t_max=40, num_steps=3, slots=4, threads=1, precision="fp32", seed=2)
    added.add_walk(tiny_denoiser())
    pictures = pictures_of(photos, [(64, 64), (67, 93)])
    found, expected = pairs_of(given, [pictures]), pairs_of(added, [pictures])
    assert_equal_pairs(found, expected)
    hq = torch.stack([picture.hq for picture in pictures[:1]]).float() / 255
    assert torch.equal((walk(hq, seed=2, keys=["0"])[0] * 255).round().to(torch.uint8), found["0"].lq)
    assert run_settings(given, "cpu") == run_settings(added, "cpu")


@pytest.mark.parametrize(
    ("psnr", "initial", "drop", "accepted"),
    [
        (20.0, 22.0, 2.0, True),
        (19.99, 22.0, 2.0, False),
        (25.0, 22.0, 0.0, True),  # closer to HQ than before
        (21.9, 22.0, 0.0, False),
        (3.0, 40.0, None, True),
        (None, 22.0, 2.0, True),  # infinite PSNR is not a drop
        (None, None, 0.0, True),
        (60.0, None, 2.0, False),  # a drop from infinity to 60 dB
        (60.0, None, None, True),
    ],
)
def test_gate(psnr, initial, drop, accepted):
    assert is_accepted(psnr, initial, drop) is accepted
