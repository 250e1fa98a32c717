"""What holds for every model alike."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from degradation_records import MODELS, NAMES, NO_BLUR, NO_NOISE, crops, drawn, label, rewritten

from ddpm_pairs.degradations import Bicubic, Degradation, RealESRGAN, build_degradation
from ddpm_pairs.degradations.ops.resize import MODES

every_model = pytest.mark.parametrize("model", MODELS, ids=label)


@every_model
def test_parameters_survive_json_and_replay_bit_for_bit(model):
    hq = crops(4, 64, 48)
    parameters, untouched = drawn(model, 4), hq.clone()
    lq = model.apply(hq, parameters)
    replayed = json.loads(json.dumps(parameters))
    assert replayed == parameters == drawn(model, 4)
    assert torch.equal(model.apply(hq, replayed), lq)
    assert torch.equal(hq, untouched)
    assert lq.shape == (4, 3, 64 // model.scale, 48 // model.scale)
    assert torch.equal((lq * 255).round() / 255, lq) and lq.min() >= 0 and lq.max() <= 1
    assert lq.dtype == torch.float32 and lq.is_contiguous() and not lq.requires_grad


@pytest.mark.parametrize("count", [4, 8])
@every_model
def test_rows_are_independent(model, count):
    hq, parameters = crops(count, 72, 48), drawn(model, count)
    lq = model.apply(hq, parameters)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(5)).tolist()
    assert torch.equal(model.apply(hq[order], [parameters[i] for i in order]), lq[order])
    others = drawn(model, count, seed=9)
    for keep in range(0, count, 3):
        mixed = torch.rand(hq.shape, generator=torch.Generator().manual_seed(keep))
        mixed[keep], others[keep] = hq[keep], parameters[keep]
        assert torch.equal(model.apply(mixed, others)[keep], lq[keep]), keep


@every_model
def test_autocast_does_not_reach_the_model(model):
    hq, parameters = crops(2, 32, 32), drawn(model, 2)
    expected = model.apply(hq, parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.apply(hq, parameters), expected)


@pytest.mark.parametrize("mode", MODES)
@every_model
def test_content_stays_in_place(model, mode, monkeypatch):
    # JPEG moves nothing, but its roundings are larger than the steps of the ramp
    if model.name != "bicubic":
        monkeypatch.setattr(
            f"ddpm_pairs.degradations.handcrafted.{model.name}.jpeg", lambda images, qualities: images.clamp(0, 1)
        )
    # a ramp along each axis, of a side that leaves a rest by 4 where the model takes such sides; without blur its
    # borders stay at the border. The phases, fractions of a level, average out the rounding to 8 bit
    length, count = (1023, 1022, None, 1024)[model.scale - 1], 32
    records = [
        rewritten(entry, noise=NO_NOISE, blur=NO_BLUR, sinc=None, quality=100.0, mode=mode)
        for entry in drawn(model, 4, seed=2)
    ]
    phases = (torch.arange(count) / count / 255).view(-1, 1, 1, 1)
    ramp = torch.linspace(0.1, 0.9, length).expand(count, 3, 8, length) + phases
    for number, entry in enumerate(records):
        transposed = number % 2 == 1
        lq = model.apply(ramp.mT if transposed else ramp, [entry] * count) - phases
        line = (lq.mT if transposed else lq).double().mean(dim=(0, 1, 2))
        expected = (torch.arange(len(line)) + 0.5) * model.scale - 0.5
        drift = (line - 0.1) / 0.8 * (length - 1) - expected
        inner = slice(len(line) // 10, -len(line) // 10)
        # area and bicubic kernels move single pixels to and fro; drift is what stays of that along the line
        slope, offset = np.polyfit(expected[inner], drift[inner], 1)
        assert abs(offset + 0.1 * length * slope) < 0.1, entry
        assert abs(offset + 0.9 * length * slope) < 0.1, entry


@every_model
def test_gray_pictures_stay_gray_where_the_noise_is_gray(model):
    hq = crops(4, 64, 48)[:, 1:2].expand(-1, 3, -1, -1)
    noise = {"kind": "gaussian", "level": 20.0, "gray": True, "noise_seed": 3}
    lq = model.apply(hq, rewritten(drawn(model, 4), noise=noise))
    # where a value lies between two levels, rounding to 8 bit may part the channels
    assert (lq - lq[:, :1]).abs().max() < 1.01 / 255
    if model.name != "bicubic":
        coloured = model.apply(hq, rewritten(drawn(model, 4), noise={**noise, "gray": False}, quality=100.0))
        assert (coloured - coloured[:, :1]).abs().amax(dim=(1, 2, 3)).min() > 4 / 255


NARROW = {"kind": "aniso", "side": 7, "sigma_x": 0.1, "sigma_y": 4.0, "angle": 0.7}
LOUD = {"kind": "gaussian", "level": 30.0, "gray": False, "noise_seed": 3}
PHOTONS = {"kind": "poisson", "level": 3.0, "gray": True, "noise_seed": 4}


@pytest.mark.parametrize("quality", [1.0, 100.0])
@pytest.mark.parametrize("size", [(16, 16), (4, 4), (8, 140)])
@every_model
def test_extremes_give_pictures(model, size, quality):
    generator = torch.Generator().manual_seed(0)
    hq = torch.stack([torch.zeros(3, *size), torch.ones(3, *size), *torch.rand(2, 3, *size, generator=generator)])
    mode = "bicubic"  # the one that overshoots
    hard = rewritten(drawn(model, 4), blur=NARROW, noise=LOUD, quality=quality, mode=mode)
    for parameters in (hard, rewritten(hard, noise=PHOTONS), rewritten(drawn(model, 4, seed=1), factor=0.15)):
        lq = model.apply(hq, parameters)
        assert lq.shape == (4, 3, size[0] // model.scale, size[1] // model.scale)
        assert lq.isfinite().all() and lq.min() >= 0 and lq.max() <= 1
    silent = model.apply(hq, rewritten(hard, noise=NO_NOISE))
    assert silent[0].max() < 1.01 / 255 and silent[1].min() > 1 - 1.01 / 255


@pytest.mark.parametrize("model", [model for model in MODELS if model.scale == 1], ids=label)
@pytest.mark.parametrize("size", [(1, 1), (17, 5)])
def test_scale_1_takes_any_size(model, size):
    lq = model.apply(torch.rand(4, 3, *size), drawn(model, 4))
    assert lq.shape == (4, 3, *size) and lq.isfinite().all()


def test_bicubic_at_scale_1_leaves_hq_to_the_walk_as_it_is():
    hq = crops(2, 17, 33)
    assert torch.equal(Bicubic(1).apply(hq, [{}, {}]), hq)


@pytest.mark.parametrize("name", ["bsrgan", "real_esrgan"])
def test_faces_are_scale_4_brought_back(name):
    hq, faces, natural = crops(3, 64, 96), build_degradation(name, 1, "faces"), build_degradation(name, 4)
    parameters = drawn(natural, 3)
    assert drawn(faces, 3) == parameters
    small = natural.apply(hq, parameters)
    expected = F.interpolate(small, size=(64, 96), mode="bilinear")
    assert (faces.apply(hq, parameters) - expected).abs().max() < 1.01 / 255


@pytest.mark.parametrize(
    ("hq", "parameters", "words"),
    [
        (torch.rand(1, 3, 6, 8), [{}], "8x6 px at scale 4: crop both sides to a multiple of 4"),
        (torch.rand(3, 8, 8), [{}], "shape"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [{}], "uint8"),
        (torch.rand(2, 3, 8, 8), [{}], "2 pictures and 1 sets"),
        (torch.rand(0, 3, 8, 8), [], "0 pictures"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_wrong_batches_are_refused(name, hq, parameters, words):
    with pytest.raises(ValueError, match=words):
        build_degradation(name, 4).apply(hq, parameters)


@every_model
def test_models_follow_the_protocol(model):
    assert isinstance(model, Degradation)
    assert model.name in NAMES and (model.scale, model.preset) != (4, "faces")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bsrgam", 4), r"'bsrgam' is unknown: give one of bicubic, classical, bsrgan, real_esrgan"),
        (("real_esrgan", 3), "scale 3: give one of 1, 2, 4"),
        (("classical", 1, "portraits"), "preset 'portraits': give one of natural, faces"),
        (("bsrgan", 4, "faces"), "bsrgan got scale 4 with preset faces, which keeps LQ on the HQ grid: give scale 1"),
    ],
)
def test_what_no_model_offers_is_refused_in_one_line(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        build_degradation(*arguments)
    assert "\n" not in str(caught.value)


def test_defaults_are_natural_pictures_at_a_quarter():
    for model in (Bicubic(), RealESRGAN(), build_degradation("classical", 4), build_degradation("bsrgan", 4)):
        assert (model.scale, model.preset) == (4, "natural")
