"""What holds for every model alike."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from degradation_records import FACES, MODELS, NAMES, NO_BLUR, NO_NOISE, crops, drawn, inner_name, label, rewritten

from ddpm_pairs.degradations import (
    Bicubic,
    Blur,
    Chain,
    Classical,
    Degradation,
    HQPreparation,
    OnHQGrid,
    RealESRGAN,
    by_name,
    degrade,
)
from ddpm_pairs.degradations.ops.resize import MODES
from ddpm_pairs.tensors import seed_of

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
    if inner_name(model) != "bicubic":
        module = f"ddpm_pairs.degradations.handcrafted.{inner_name(model)}"
        monkeypatch.setattr(f"{module}.jpeg", lambda images, qualities: images.clamp(0, 1))
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
    if inner_name(model) != "bicubic":
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
    hq, faces, natural = crops(3, 64, 96), OnHQGrid(name), by_name(name, 4)
    parameters = drawn(natural, 3)
    nested = drawn(faces, 3)
    assert nested == [{"degradation": {"name": name, "parameters": one}} for one in parameters]
    small = natural.apply(hq, parameters)
    expected = F.interpolate(small, size=(64, 96), mode="bilinear")
    assert (faces.apply(hq, nested) - expected).abs().max() < 1.01 / 255


@pytest.mark.parametrize("inner", ["classical", Chain([Blur()], 4)])
def test_any_degradation_is_brought_back_to_the_hq_grid(inner):
    """Sides that are no multiple of 4 are padded first, so that nothing is stretched."""
    faces = OnHQGrid(inner)
    hq, parameters = crops(2, 62, 93), drawn(faces, 2)
    drawn_inside = [one["degradation"]["parameters"] for one in parameters]
    small = faces.degradation.apply(F.pad(hq, (0, 3, 0, 2), mode="replicate"), drawn_inside)
    expected = F.interpolate(small, size=(64, 96), mode="bilinear")[..., :62, :93]
    assert (faces.apply(hq, parameters) - expected).abs().max() < 0.51 / 255


def test_on_hq_grid_wants_the_scale_of_its_factor():
    with pytest.raises(ValueError, match="factor: got 4; expected 2, the scale of degradation chain; leave factor out"):
        OnHQGrid(Chain([Blur()], 2))
    assert OnHQGrid("bsrgan", 2).degradation.scale == 2


@pytest.mark.parametrize(
    ("hq", "parameters", "words"),
    [
        (torch.rand(1, 3, 6, 8), [{}], "8x6 px; expected multiples of 4"),
        (torch.rand(3, 8, 8), [{}], "shape"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [{}], "uint8"),
        (torch.rand(2, 3, 8, 8), [{}], "2 images and 1 sets"),
        (torch.rand(0, 3, 8, 8), [], "0 images"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_wrong_batches_are_refused(name, hq, parameters, words):
    with pytest.raises(ValueError, match=words):
        by_name(name, 4).apply(hq, parameters)


@every_model
def test_models_follow_the_protocol(model):
    assert isinstance(model, Degradation)
    assert inner_name(model) in NAMES and (model.scale == 1 or model not in FACES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("bsrgam", 4),
            "degradation: got 'bsrgam'; expected one of bicubic, classical, classical_faces, bsrgan, real_esrgan, "
            "gaussian_noise, a",
        ),
        (("real_esrgan", 3), "real_esrgan scale: got 3; expected one of 1, 2, 4"),
        (("classical_faces", 4), "scale: got 4; expected 1, the scale of degradation classical_faces; leave scale out"),
    ],
)
def test_what_no_model_offers_is_refused_in_one_line(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        by_name(*arguments)
    assert "\n" not in str(caught.value)


def test_defaults_are_natural_pictures_at_a_quarter():
    for model in (Bicubic(), RealESRGAN(), by_name("classical"), by_name("bsrgan")):
        assert model.scale == 4


class Own:
    """A class with the four parts, and nothing else."""

    name, scale = "own", 2

    def draw(self, generator):
        return {"light": torch.rand((), generator=generator).item()}

    def apply(self, hq, parameters):
        light = torch.tensor([one["light"] for one in parameters]).view(-1, 1, 1, 1)
        return (F.avg_pool2d(hq, 2) * light * 255).round() / 255


CALLED = [*FACES, by_name("bsrgan", 2), Classical(colour=True), Chain([Blur()], 4), HQPreparation(True, 0.5)]


@pytest.mark.parametrize("model", [*CALLED, Own()], ids=lambda model: model.name)
def test_one_call_for_every_degradation(model):
    """What `predict` draws for these keys, on images of any size."""
    hq = crops(3, 67, 95)
    lq = degrade(model, hq, seed=4, keys=["x", "y", "z"])
    assert lq.shape == (3, 3, 67 // model.scale, 95 // model.scale) and lq.dtype == torch.float32
    keys = [seed_of(4, key, "degradation") for key in ("x", "y", "z")]
    parameters = [model.draw(torch.Generator().manual_seed(key)) for key in keys]
    whole = hq[:, :, : 67 // model.scale * model.scale, : 95 // model.scale * model.scale]
    assert torch.equal(lq, model.apply(whole, parameters))
    if not isinstance(model, Own):
        assert torch.equal(model(hq, seed=4, keys=["x", "y", "z"]), lq)
        others = [model.draw(torch.Generator().manual_seed(seed_of(0, key, "degradation"))) for key in "012"]
        assert torch.equal(model(hq), model(hq, keys=["0", "1", "2"]))
        assert torch.equal(model(hq), lq) == (others == parameters)  # equal where nothing is random


@pytest.mark.parametrize(
    ("hq", "keys", "words"),
    [
        (torch.rand(2, 3, 63, 64), None, "HQ is too small: got 64x63 px; expected 64 px or more per side at scale 4"),
        (torch.rand(2, 3, 64, 64), ["a"], "2 images and 1 sets"),
        (torch.rand(3, 64, 64), None, "shape"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), None, "uint8"),
    ],
)
def test_calls_are_checked(hq, keys, words):
    with pytest.raises(ValueError, match=words):
        Bicubic()(hq, keys=keys)
