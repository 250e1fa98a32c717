import json
import math
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from degradation_records import NO_BLUR, NO_NOISE, crops, drawn, rewritten
from distributions import assert_equally_likely, assert_share, assert_uniform
from scipy.ndimage import convolve
from scipy.stats import multivariate_normal

from ddpm_pairs.degradations import ReDegNetChain
from ddpm_pairs.degradations.by_name import build
from ddpm_pairs.degradations.ops.jpeg import jpeg
from ddpm_pairs.errors import UserError

COUNT = 4000
MODES = ("area", "bilinear", "bicubic")
OPENCV = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
MODULE = "ddpm_pairs.degradations.handcrafted.redegnet_chain"


def draws(count=COUNT, **options):
    generator, model = torch.Generator().manual_seed(3), ReDegNetChain(**options)
    return [model.draw(generator)["operations"] for _ in range(count)]


def steps(records, name):
    return [step for record in records for step in record if step["operation"] == name]


def test_a_fifth_of_the_chains_is_simple():
    blurs = [Counter(step["operation"] for step in record)["blur"] for record in draws()]
    assert set(blurs) == {0, 1, 2}
    assert_share(sum(count < 2 for count in blurs), 0.2, COUNT)


def test_drawn_simple_chains():
    records = draws(simple=1)
    for name, probability in {"blur": 0.8, "down": 0.8, "noise": 0.9, "jpeg": 0.9}.items():
        assert_share(len(steps(records, name)), probability, COUNT)
    for record in records:
        order = [step["operation"] for step in record]
        assert order == [name for name in ("blur", "down", "noise", "jpeg") if name in order]
    blurs = [step["blur"] for step in steps(records, "blur")]
    assert_equally_likely([blur["side"] for blur in blurs], range(7, 32, 2))
    assert_uniform([blur["sigma_x"] for blur in blurs], 0.3, 1.3)
    assert all(blur["kind"] == "iso" and blur["sigma_x"] == blur["sigma_y"] for blur in blurs)
    noises = [step["noise"] for step in steps(records, "noise")]
    assert_uniform([noise["level"] for noise in noises], 3, 24)
    assert {(noise["kind"], noise["gray"]) for noise in noises} == {("gaussian", False)}
    assert len({noise["noise_seed"] for noise in noises}) == len(noises)
    assert_equally_likely([step["quality"] for step in steps(records, "jpeg")], range(30, 81))


def test_drawn_shuffled_chains():
    records = draws(simple=0)
    orders = [tuple(step["operation"] for step in record) for record in records]
    for order in orders:
        assert order.count("blur") == 2 and order.count("down") == order.count("noise") == 1
    # in nine of ten chains one JPEG is shuffled with the other steps, and half of all chains end with another
    jpegs = [order.count("jpeg") for order in orders]
    assert_share(jpegs.count(2), 0.9 * 0.5, COUNT)
    assert_share(jpegs.count(0), 0.1 * 0.5, COUNT)
    assert_equally_likely([order[:5] for order in orders if len(order) == 6], whole_orders())
    blurs = [step["blur"] for step in steps(records, "blur")]
    assert_equally_likely([blur["side"] for blur in blurs], range(5, 18, 2))
    iso = [blur for blur in blurs if blur["kind"] == "iso"]
    aniso = [blur for blur in blurs if blur["kind"] == "aniso"]
    assert_share(len(aniso), 0.5, len(blurs))
    assert_uniform([blur["sigma_x"] for blur in iso], 0.1, 2.8)
    assert all(blur["sigma_x"] == blur["sigma_y"] for blur in iso)
    for name in ("sigma_x", "sigma_y"):
        assert_uniform([blur[name] for blur in aniso], 0.5, 8)
    assert_uniform([blur["angle"] for blur in aniso], 0, math.pi)
    noises = [step["noise"] for step in steps(records, "noise")]
    white = [noise for noise in noises if noise["kind"] == "gaussian"]
    assert_share(len(white), 0.8, COUNT)
    assert_equally_likely([noise["level"] for noise in white], range(1, 20))
    assert_share(sum(noise["gray"] for noise in white), 0.5, len(white))
    assert_equally_likely([step["quality"] for step in steps(records, "jpeg")], range(30, 86))


def whole_orders():
    """The orders of five steps of which two are alike."""
    names = ("blur", "blur", "down", "noise", "jpeg")
    return {tuple(names[i] for i in torch.randperm(5, generator=torch.Generator().manual_seed(n))) for n in range(2000)}


@pytest.mark.parametrize("factor", [(2, 6), (3, 6), (1, 2)])
@pytest.mark.parametrize("simple", [0, 1])
def test_drawn_factors(factor, simple):
    options = {} if factor == (2, 6) else {"factor": factor}
    resizes = [step["resize"] for step in steps(draws(1500, simple=simple, **options), "down")]
    assert_uniform([1 / one["factor"] for one in resizes], factor[0] - 1e-9, factor[1] + 1e-9)
    assert_equally_likely([one["mode"] for one in resizes], MODES)


def reference(image, operations):
    """The chain of one (H, W, 3) image without noise, in double precision, by SciPy and OpenCV."""
    height, width = image.shape[:2]
    for step in operations:
        if step["operation"] == "blur":
            blur = step["blur"]
            turn = np.array(
                [
                    [math.cos(blur["angle"]), -math.sin(blur["angle"])],
                    [math.sin(blur["angle"]), math.cos(blur["angle"])],
                ]
            )
            covariance = turn @ np.diag([blur["sigma_x"] ** 2, blur["sigma_y"] ** 2]) @ turn.T
            radius = blur["side"] // 2
            y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
            kernel = multivariate_normal.pdf(np.dstack((x, y)), [0, 0], covariance)
            image = convolve(image, (kernel / kernel.sum())[..., None], mode="mirror")
        elif step["operation"] == "down":
            factor, mode = step["resize"]["factor"], OPENCV[step["resize"]["mode"]]
            size = int(image.shape[1] * factor), int(image.shape[0] * factor)
            image = cv2.resize(image, size, interpolation=mode).clip(0, 1)
        elif step["operation"] == "jpeg":
            batch = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
            image = jpeg(batch, [step["quality"]])[0].permute(1, 2, 0).double().numpy()
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def test_each_row_goes_through_its_own_chain():
    hq, model = crops(8, 72, 96), ReDegNetChain(simple=0.5)
    parameters = rewritten(drawn(model, 8, seed=2), noise=NO_NOISE)
    exact = 0
    for row, image, entry in zip(model.apply(hq, parameters), hq, parameters, strict=True):
        expected = reference(image.permute(1, 2, 0).double().numpy(), entry["operations"])
        difference = np.abs(row.permute(1, 2, 0).numpy() - expected)
        # a coefficient between two levels to seven digits may be rounded to the other one: a block differs
        assert np.sqrt(np.mean(difference**2)) < 2 / 255, entry
        exact += difference.max() < 0.6 / 255
    assert exact >= 6


def test_parameters_survive_json_and_rows_are_independent():
    hq, model = crops(6, 64, 48), ReDegNetChain(simple=0.5)
    parameters, untouched = drawn(model, 6), hq.clone()
    lq = model.apply(hq, parameters)
    assert lq.shape == hq.shape and torch.equal((lq * 255).round() / 255, lq) and torch.equal(hq, untouched)
    assert torch.equal(model.apply(hq, json.loads(json.dumps(parameters))), lq)
    assert all(torch.equal(model.apply(hq[i : i + 1], parameters[i : i + 1])[0], lq[i]) for i in range(6))
    again = build(model.spec())
    assert drawn(again, 6) == parameters and again.factor == model.factor


def test_equal_parameters_give_equal_images_the_same_lq_and_different_ones_the_same_noise():
    model = ReDegNetChain()
    parameters = drawn(model, 12, seed=4)
    hq = crops(12, 64, 64)
    assert torch.equal(model.apply(hq, parameters), model.apply(hq.clone(), parameters))
    # JPEG and clipping depend on the content; what they get does not
    noisy = [{"operations": [s for s in one["operations"] if s["operation"] != "jpeg"]} for one in parameters]
    flat = [model.apply(torch.full((12, 3, 64, 64), level), noisy) - level for level in (100 / 255, 150 / 255)]
    assert (flat[0] - flat[1]).abs().max() < 1.01 / 255
    others = model.apply(torch.full((12, 3, 64, 64), 100 / 255), rewritten(noisy, noise_seed=1)) - 100 / 255
    assert sum((one - other).std() > 0.5 / 255 for one, other in zip(flat[0], others, strict=True)) >= 8


def test_content_stays_in_place(monkeypatch):
    # JPEG moves nothing, but its roundings are larger than the steps of the ramp
    monkeypatch.setattr(f"{MODULE}.jpeg", lambda images, qualities: images)
    length, count = 1023, 32
    phases = (torch.arange(count) / count / 255).view(-1, 1, 1, 1)
    ramp = torch.linspace(0.1, 0.9, length).expand(count, 3, 8, length) + phases
    for entry in rewritten(drawn(ReDegNetChain(), 6, seed=2), noise=NO_NOISE, blur=NO_BLUR):
        line = (ReDegNetChain().apply(ramp, [entry] * count) - phases).double().mean(dim=(0, 1, 2))
        drift = (line - 0.1) / 0.8 * (length - 1) - torch.arange(length)
        slope, offset = np.polyfit(np.arange(length)[100:-100], drift[100:-100], 1)
        assert abs(offset + 0.1 * length * slope) < 0.1 and abs(offset + 0.9 * length * slope) < 0.1, entry


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": (0.5, 2)}, "redegnet_chain factor: got .0.5, 2.; expected"),
        ({"factor": (3, 2)}, "redegnet_chain factor"),
        ({"factor": (1, 17)}, "redegnet_chain factor"),
        ({"simple": 1.5}, "redegnet_chain simple: got 1.5; expected a share from 0 to 1"),
    ],
)
def test_wrong_arguments_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        ReDegNetChain(**options)


def test_parameters_of_another_program_cost_nothing():
    hq, blur = torch.rand(1, 3, 16, 16), NO_BLUR | {"side": 100_001}
    with pytest.raises(ValueError, match="operations: expected no more than 6"):
        ReDegNetChain().apply(hq, [{"operations": [{"operation": "jpeg", "quality": 50}] * 7}])
    with pytest.raises(ValueError, match="kernel side"):
        ReDegNetChain().apply(hq, [{"operations": [{"operation": "blur", "blur": blur}]}])
